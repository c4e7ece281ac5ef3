/** The routes of the index: search, and for a store pictures to add and rows to remove. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Filter } from '../search/index.ts';
import { bodyOf } from './body.ts';
import { type Context, callOf, common, listSchema, pictureOf, pictureSchema, picturesOf, textSchema } from './call.ts';
import { HttpError } from './errors.ts';
import type { Form } from './form.ts';
import {
  addToIndex,
  describeIndex,
  filterSchema,
  kSchema,
  metadataSchema,
  removeFromIndex,
  rerankSchema,
  searchIndex,
  writableIndexOf,
} from './index-calls.ts';
import { requireItems } from './own-routes.ts';

const consumes = ['application/json', 'multipart/form-data'];
/** Longest id of a row, in characters; the store counts its bytes. */
const longestId = 2000;
/** Fields in JSON of a form. */
const longestJson = 2 ** 16;

export function addIndexRoutes(app: FastifyInstance, context: Context): void {
  const { limits, engines, isWritable } = context;
  const id = z.string().min(1).max(longestId);

  app.get('/v1/index', { schema: { summary: 'What the index is' } }, async (request, reply) => {
    const { options } = callOf(context, request, reply);
    return reply.send(await describeIndex(engines, engines.first, isWritable, options));
  });

  const search = z
    .strictObject({
      ...common,
      text: textSchema(limits).optional(),
      image: pictureSchema.optional(),
      k: kSchema,
      rerank: rerankSchema,
      filter: filterSchema.optional(),
    })
    .refine(({ text, image }) => (text === undefined) !== (image === undefined), 'expected text or image');
  const summary = 'Find pictures of the index by a text or a picture';
  app.post('/v1/search', { schema: { summary, consumes, body: search } }, async (request, reply) => {
    const body = await bodyOf(request, search, limits, (form) => ({
      model: form.one('model'),
      priority: form.one('priority'),
      text: form.one('text'),
      image: form.picture('image', 'images'),
      k: form.number('k'),
      rerank: form.number('rerank'),
      filter: jsonField(form, 'filter'),
    }));
    const { engine, options } = callOf(context, request, reply, body);
    const { k, rerank, filter } = body;
    const query = body.text ?? { image: await pictureOf(context, request, body.image!, 'image') };
    const results = await searchIndex(
      engines,
      engine,
      { query, k, rerank, filter: filter as Filter | undefined },
      options,
    );
    return reply.send({ results });
  });

  const add = z.strictObject({
    ...common,
    items: listSchema(z.strictObject({ id, image: pictureSchema, metadata: metadataSchema.optional() }), limits),
    replace: z
      .boolean()
      .optional()
      .describe('Whether rows with these ids are replaced; default: they stay as they are.'),
  });
  app.post(
    '/v1/index/add',
    { schema: { summary: 'Add pictures to the store', consumes, body: add } },
    async (request, reply) => {
      requireOwnPage(context, request);
      const body = await bodyOf(request, add, limits, (form) => ({
        model: form.one('model'),
        priority: form.one('priority'),
        replace: form.flag('replace'),
        items: itemsOf(form),
      }));
      const { engine, options } = callOf(context, request, reply, body);
      requireItems(body.items.length, limits.items, 'items');
      writableIndexOf(engines, engine, isWritable); // before pictures are fetched
      const shown = await picturesOf(
        context,
        request,
        body.items.map(({ image }) => image),
        'items',
      );
      const items = body.items.map(({ id, metadata }, i) => ({ id, image: shown[i]!, ...(metadata && { metadata }) }));
      return reply.send(await addToIndex(engines, engine, isWritable, items, body.replace, options));
    },
  );

  const remove = z.strictObject({ ...common, ids: listSchema(id, limits) });
  app.post(
    '/v1/index/remove',
    { schema: { summary: 'Remove rows from the store', body: remove } },
    async (request, reply) => {
      requireOwnPage(context, request);
      const body = await bodyOf(request, remove, limits);
      const { engine, options } = callOf(context, request, reply, body);
      requireItems(body.ids.length, limits.items, 'ids');
      return reply.send({ removed: await removeFromIndex(engines, engine, isWritable, body.ids, options) });
    },
  );
}

/**
 * A page of any site can have a browser send a form here. What it would change is refused; its own pages, and those of allowed origins,
 * may.
 *
 * @throws HttpError 403
 */
function requireOwnPage({ corsOrigins }: Context, { headers, host }: FastifyRequest): void {
  const { origin } = headers;
  if (origin === undefined || corsOrigins.includes(origin)) return;
  const from = URL.canParse(origin) ? new URL(origin).host : origin;
  if (from === host.toLowerCase()) return;
  throw new HttpError(
    403,
    'ORIGIN_NOT_ALLOWED',
    'expected a page of this server, or of an origin of --cors, got another',
  );
}

/** Ids, pictures and metadata of a form, in the order in which each came: as many of each, metadata as JSON or left out. */
function itemsOf(form: Form): object[] {
  const ids = form.all('id', 'ids') ?? [];
  const images = form.pictures(['images', 'image']) ?? [];
  const metadata = form.all('metadata') ?? [];
  if (ids.length !== images.length || (metadata.length !== 0 && metadata.length !== ids.length))
    throw new HttpError(
      422,
      'MOME_INVALID_ARGUMENT',
      `expected as many ids as images, and as much metadata or none, got ${ids.length}, ${images.length} and ${metadata.length}`,
    );
  return ids.map((id, i) => ({ id, image: images[i], metadata: parsedField(metadata[i], 'metadata') }));
}

const jsonField = (form: Form, name: string): unknown => parsedField(form.one(name), name);

/** @throws HttpError 422 for what is no JSON */
function parsedField(text: string | undefined, name: string): unknown {
  if (text === undefined || text.trim() === '') return undefined;
  try {
    if (text.length <= longestJson) return JSON.parse(text);
  } catch {}
  throw new HttpError(
    422,
    'MOME_INVALID_ARGUMENT',
    `${name}: expected JSON of at most ${longestJson} characters, got something else`,
    name,
  );
}
