/** Re-ranking in four dialects: our own and Jina's, infinity's, TEI's and Cohere's. */
import { randomUUID } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { bodyOf } from './body.ts';
import { type Context, callOf, common, listSchema, textSchema } from './call.ts';
import { type Dialect, setDialect } from './errors.ts';
import { type Form, isFileName } from './form.ts';
import { requireItems } from './own-routes.ts';
import { type DocumentField, documentSchema, ranked } from './rank.ts';
import { rowsAsJson, shortened } from './rows.ts';
import { textsOf } from './texts.ts';

export function addRerankRoutes(app: FastifyInstance, context: Context): void {
  const { limits } = context;
  const document = documentSchema(limits);
  const rerank = z.object({
    ...common,
    query: document,
    documents: listSchema(document, limits),
    top_n: z.int().min(0).nullish().describe('How many of the best; 0 and nothing stand for all.'),
    return_documents: z.boolean().nullish().describe('Whether results hold their documents.'),
    raw_scores: z.boolean().nullish().describe('Log-odds in place of numbers from 0 to 1.'),
  });
  const tei = z.object({
    query: document,
    texts: listSchema(document, limits),
    raw_scores: z.boolean().nullish(),
    return_text: z.boolean().nullish(),
    truncate: z.boolean().nullish(),
    truncation_direction: z.string().max(10).nullish(),
  });
  const fromForm = (form: Form) => ({
    model: form.one('model'),
    priority: form.one('priority'),
    query: form.either('query'),
    documents: form.pictures(documentFields, ['query']),
    top_n: form.number('top_n'),
    return_documents: form.flag('return_documents'),
    raw_scores: form.flag('raw_scores'),
  });

  /** Our own and Jina's, which are one: ours gives more of each result. */
  const answerOwn = async (request: FastifyRequest, reply: FastifyReply) => {
    const body = await bodyOf(request, rerank, limits, fromForm);
    const { engine, options } = callOf(context, request, reply, body);
    const order = await ranked(context, request, engine, body.query, body.documents, options);
    const results = order.slice(0, body.top_n || order.length).map(({ relevance, ...each }) => ({
      relevance_score: body.raw_scores ? each.score : relevance,
      ...each,
      ...(body.return_documents && { document: shown(body.documents[each.index]!) }),
    }));
    const usage = usageOf(body.documents.length);
    return reply.send({ object: 'rerank', id: randomUUID(), model: engine.name, created: now(), usage, results });
  };
  const answerTei = async (request: FastifyRequest, reply: FastifyReply) => {
    const body = await bodyOf(request, tei, limits);
    const { engine, options } = callOf(context, request, reply);
    const order = await ranked(context, request, engine, body.query, body.texts, options);
    return reply.send(
      order.map(({ index, relevance, score }) => ({
        index,
        score: body.raw_scores ? score : relevance,
        ...(body.return_text && typeof body.texts[index] === 'string' && { text: body.texts[index] }),
      })),
    );
  };
  const consumes = ['application/json', 'multipart/form-data'];
  const summary = 'Order documents, texts or pictures, by a query';
  app.post('/v1/rerank', { schema: { summary, consumes, body: rerank } }, answerOwn);
  const both = z.union([rerank, tei]);
  const isTei = (body: unknown) => typeof body === 'object' && body !== null && 'texts' in body;
  app.post(
    '/rerank',
    { schema: { summary: `${summary}: infinity's or, with texts, TEI's`, body: both } },
    (request, reply) => {
      if (!isTei(request.body)) return answerOwn(request, reply);
      setDialect(request, 'tei');
      return answerTei(request, reply);
    },
  );

  const cohere = z.object({
    model: common.model,
    query: document,
    documents: listSchema(document, limits),
    top_n: z.int().min(1).nullish(),
    max_tokens_per_doc: z.int().nullish(),
    priority: z.int().min(0).max(999).nullish().describe('0 (default) to 999; beyond 0 it is bulk.'),
  });
  const config = { dialect: 'cohere' satisfies Dialect };
  app.post(
    '/v2/rerank',
    { config, schema: { summary: `${summary}: Cohere's`, body: cohere } },
    async (request, reply) => {
      const { priority, ...body } = await bodyOf(request, cohere, limits);
      const { engine, options } = callOf(context, request, reply, {
        model: body.model,
        ...(priority && { priority: 'bulk' }),
      });
      const order = await ranked(context, request, engine, body.query, body.documents, options);
      const results = order
        .slice(0, body.top_n ?? order.length)
        .map(({ index, relevance }) => ({ index, relevance_score: relevance }));
      const meta = { api_version: { version: '2' }, billed_units: { search_units: 1 } };
      return reply.send({ id: randomUUID(), results, meta });
    },
  );

  addEmbedOfTei(app, context);
}

function addEmbedOfTei(app: FastifyInstance, context: Context): void {
  const { limits } = context;
  const text = textSchema(limits);
  const ids = z.array(z.int().min(0)).min(1).max(limits.textLength);
  const embed = z.object({
    inputs: z.union([text, listSchema(text, limits), ids, listSchema(ids, limits)]),
    normalize: z.literal(true).nullish().describe('Rows of length 1 are all there is.'),
    truncate: z.boolean().nullish().describe('Longer texts are always cut, as the model was trained.'),
    truncation_direction: z.enum(['right', 'Right']).nullish(),
    prompt_name: z.null().optional(),
    dimensions: z.int().min(1).nullish(),
  });
  const config = { dialect: 'tei' satisfies Dialect };
  app.post('/embed', { config, schema: { summary: "Embed texts: TEI's", body: embed } }, async (request, reply) => {
    const body = await bodyOf(request, embed, limits);
    const { engine, options } = callOf(context, request, reply);
    const texts = await textsOf(body.inputs, engine);
    requireItems(texts.length, limits.items, 'inputs');
    const rows = shortened(await engine.batcher.embedTexts(texts, options), body.dimensions);
    return reply.type('application/json').send(`[${(await rowsAsJson(rows, 'float')).join(',')}]`);
  });
}

/** How people call the fields of documents in a form. */
const documentFields = ['documents', 'document', 'images', 'image', 'texts', 'text'];

const now = () => Math.floor(Date.now() / 1000);

/** Texts are billed by words elsewhere; here a unit is a document. */
const usageOf = (documents: number) => ({ prompt_tokens: documents, total_tokens: documents });

/** A document as a result shows it: files of a form stay where they came from. */
function shown(document: DocumentField): object {
  if (typeof document !== 'string') return document;
  return isFileName(document) ? {} : { text: document };
}
