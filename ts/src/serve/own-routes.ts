/** Our own routes: embed, match, answer, reason and fill masks. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { bodyOf } from './body.ts';
import {
  type Context,
  callOf,
  common,
  listOf,
  listSchema,
  pictureOf,
  pictureSchema,
  picturesOf,
  someSchema,
  textSchema,
} from './call.ts';
import { HttpError } from './errors.ts';
import { rowsAsJson } from './rows.ts';

const consumes = ['application/json', 'multipart/form-data'];
/** Most answers, pieces or results that may be asked for. */
const mostResults = 1000;
const k = z.int().min(1).max(mostResults).optional();

export function addOwnRoutes(app: FastifyInstance, context: Context): void {
  const { limits } = context;
  const text = textSchema(limits);
  const texts = listSchema(text, limits);
  const pictures = listSchema(pictureSchema, limits);

  const embed = z.strictObject({
    ...common,
    texts: someSchema(text, limits).optional(),
    images: someSchema(pictureSchema, limits).optional(),
    encoding_format: z.enum(['float', 'base64']).optional().describe('base64: float32 numbers, little endian.'),
  });
  app.post(
    '/v1/embed',
    { schema: { summary: 'Embed texts and pictures', consumes, body: embed } },
    async (request, reply) => {
      const body = await bodyOf(request, embed, limits, (form) => ({
        model: form.one('model'),
        priority: form.one('priority'),
        texts: form.all('texts', 'text'),
        images: form.pictures(['images', 'image']),
        encoding_format: form.one('encoding_format'),
      }));
      const { engine, options } = callOf(context, request, reply, body);
      const given = [listOf(body.texts), listOf(body.images)] as const;
      requireItems(given[0].length + given[1].length, limits.items, 'texts and images');
      const shown = await picturesOf(context, request, given[1], 'images');
      const [ofTexts, ofImages] = await Promise.all([
        given[0].length === 0 ? undefined : engine.batcher.embedTexts(given[0], options),
        shown.length === 0 ? undefined : engine.batcher.embedImages(shown, options),
      ]);
      const format = body.encoding_format ?? 'float';
      const list = async (rows: typeof ofTexts) => (rows ? (await rowsAsJson(rows, format)).join(',') : '');
      const { width } = engine.vlmo.config;
      const head = `{"model":${JSON.stringify(engine.name)},"width":${width}`;
      return reply
        .type('application/json')
        .send(`${head},"texts":[${await list(ofTexts)}],"images":[${await list(ofImages)}]}`);
    },
  );

  const match = z
    .strictObject({
      ...common,
      pairs: listSchema(z.object({ image: pictureSchema, text }), limits).optional(),
      images: pictures.optional(),
      texts: texts.optional(),
    })
    .describe('Pairs; or pictures and texts, as many of both, or one of one of them.');
  app.post(
    '/v1/match',
    { schema: { summary: 'Whether pictures and texts belong together', consumes, body: match } },
    async (request, reply) => {
      const body = await bodyOf(request, match, limits, (form) => ({
        model: form.one('model'),
        priority: form.one('priority'),
        images: form.pictures(['images', 'image']),
        texts: form.all('texts', 'text'),
      }));
      const { engine, options } = callOf(context, request, reply, body);
      const pairs = body.pairs ?? combined(body.images ?? [], body.texts ?? []);
      requireItems(pairs.length, limits.items, 'pairs');
      const shown = await picturesOf(
        context,
        request,
        pairs.map(({ image }) => image),
        'pairs',
      );
      const probabilities = await engine.batcher.match(
        pairs.map((pair, i) => ({ image: shown[i]!, text: pair.text })),
        options,
      );
      return reply.send({ model: engine.name, matches: [...probabilities] });
    },
  );

  const answer = z.strictObject({ ...common, image: pictureSchema, question: text, k });
  app.post(
    '/v1/answer',
    { schema: { summary: 'Answer a question about a picture', consumes, body: answer } },
    async (request, reply) => {
      const body = await bodyOf(request, answer, limits, (form) => ({
        model: form.one('model'),
        priority: form.one('priority'),
        image: form.picture('image', 'images'),
        question: form.one('question'),
        k: form.number('k'),
      }));
      const { engine, options } = callOf(context, request, reply, body);
      const picture = await pictureOf(context, request, body.image, 'image');
      const answers = await engine.batcher.answer(picture, body.question, { ...options, ...(body.k && { k: body.k }) });
      return reply.send({ model: engine.name, answers });
    },
  );

  const reason = z.strictObject({ ...common, images: z.array(pictureSchema).length(2), statement: text });
  app.post(
    '/v1/reason',
    { schema: { summary: 'Judge a statement about two pictures', consumes, body: reason } },
    async (request, reply) => {
      const body = await bodyOf(request, reason, limits, (form) => ({
        model: form.one('model'),
        priority: form.one('priority'),
        images: form.pictures(['images', 'image']),
        statement: form.one('statement'),
      }));
      const { engine, options } = callOf(context, request, reply, body);
      const [left, right] = await picturesOf(context, request, body.images, 'images');
      return reply.send({
        model: engine.name,
        ...(await engine.batcher.reason([left!, right!], body.statement, options)),
      });
    },
  );

  const fillMask = z.strictObject({ ...common, image: pictureSchema.optional(), text, k });
  app.post(
    '/v1/fill-mask',
    { schema: { summary: 'Word pieces for each [MASK]', consumes, body: fillMask } },
    async (request, reply) => {
      const body = await bodyOf(request, fillMask, limits, (form) => ({
        model: form.one('model'),
        priority: form.one('priority'),
        image: form.picture('image', 'images'),
        text: form.one('text'),
        k: form.number('k'),
      }));
      const { engine, options } = callOf(context, request, reply, body);
      const picture = body.image === undefined ? null : await pictureOf(context, request, body.image, 'image');
      const masks = await engine.batcher.fillMask(picture, body.text, { ...options, ...(body.k && { k: body.k }) });
      return reply.send({ model: engine.name, masks });
    },
  );
}

/** @throws HttpError 422 for none, 413 for too many */
export function requireItems(count: number, most: number, what: string): void {
  if (count === 0) throw new HttpError(422, 'MOME_INVALID_ARGUMENT', `expected ${what}, got none`);
  if (count > most)
    throw new HttpError(413, 'MOME_TOO_LARGE', `expected at most ${most} ${what} in a request, got ${count}`);
}

/** Pictures with texts: as many of both, or one of one of them. */
function combined(images: readonly string[], texts: readonly string[]): { image: string; text: string }[] {
  const count = Math.max(images.length, texts.length);
  const fits = (length: number) => length === count || length === 1;
  if (count === 0 || !fits(images.length) || !fits(texts.length))
    throw new HttpError(
      422,
      'MOME_INVALID_ARGUMENT',
      `expected pairs, or as many images as texts, got ${images.length} images and ${texts.length} texts`,
    );
  return Array.from({ length: count }, (_, i) => ({
    image: images[images.length === 1 ? 0 : i]!,
    text: texts[texts.length === 1 ? 0 : i]!,
  }));
}
