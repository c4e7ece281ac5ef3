/** The four calls of `mome.v1.Index`: between messages of gRPC and what requests ask of the index. */
import type { BatchedOptions } from '../../inference/index.ts';
import type { Filter, Metadata, Scalar, SearchQuery } from '../../search/index.ts';
import { type Context, requirePicture } from '../call.ts';
import type { ServedEngine } from '../engines.ts';
import { HttpError } from '../errors.ts';
import { addToIndex, describeIndex, removeFromIndex, searchIndex } from '../index-calls.ts';
import { engineNamed } from '../oip.ts';
import type { ServerLimits } from '../options.ts';
import { requireItems } from '../own-routes.ts';
import type { FoundResult } from '../served-index.ts';
import type { Message } from './messages.ts';
import type { Call } from './service.ts';

const mostResults = 1000;
const mostReranked = 256;
const bounds = ['gt', 'gte', 'lt', 'lte'] as const;

/** The calls by their names. */
export function indexCalls({ engines, limits, isWritable }: Context): Readonly<Record<string, Call>> {
  /** Does a call of the model that has the index, which stays open for it whatever takes its place. */
  const withEngine = async <T>(
    { model_name: name }: Message,
    options: (engine: ServedEngine) => BatchedOptions,
    work: (engine: ServedEngine, options: BatchedOptions) => Promise<T>,
  ): Promise<T> => {
    const engine = name ? engineNamed(engines, name) : engines.first;
    const release = engines.hold(engine);
    try {
      return await work(engine, options(engine));
    } finally {
      release();
    }
  };
  return {
    Describe: (request, options) =>
      withEngine(request, options, (engine, given) => describeIndex(engines, engine, isWritable, given)),
    Search: (request, options) =>
      withEngine(request, options, async (engine, given) => {
        const { k, rerank } = request;
        if (k > mostResults) throw wrong(`k: expected at most ${mostResults}, got ${k}`);
        if (rerank > mostReranked) throw wrong(`rerank: expected at most ${mostReranked}, got ${rerank}`);
        const asked = {
          query: queryOf(request, limits),
          k: k === 0 ? undefined : k,
          rerank,
          filter: filterOf(request.filter),
        };
        const results = await searchIndex(engines, engine, asked, given);
        return { results: results.map(described) };
      }),
    Add: (request, options) =>
      withEngine(request, options, async (engine, given) => {
        requireItems(request.items.length, limits.items, 'items');
        const items = (request.items as readonly Message[]).map(({ id, image, metadata }, i) => {
          requirePicture(image, limits, `items.${i}`);
          return { id, image, metadata: metadataOf(metadata) };
        });
        return addToIndex(engines, engine, isWritable, items, request.replace, given);
      }),
    Remove: (request, options) =>
      withEngine(request, options, async (engine, given) => {
        requireItems(request.ids.length, limits.items, 'ids');
        return { removed: await removeFromIndex(engines, engine, isWritable, request.ids, given) };
      }),
  };
}

/** @throws HttpError 413, 422 */
function queryOf({ query, text, image }: Message, limits: ServerLimits): SearchQuery {
  const { textLength } = limits;
  if (query === 'image') {
    requirePicture(image, limits, 'image');
    return { image };
  }
  if (query !== 'text') throw wrong('query: expected text or image, got neither');
  if (text.length > textLength)
    throw new HttpError(413, 'MOME_TOO_LARGE', `text: expected at most ${textLength} characters, got ${text.length}`);
  return text;
}

/** @throws HttpError 422 for a value that is none */
function scalarOf(where: string, { value, ...values }: Message): Scalar {
  if (value === undefined) throw wrong(`${where}: expected text, number or flag, got none of them`);
  return values[value];
}

const metadataOf = (fields: Readonly<Record<string, Message>>): Metadata =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, scalarOf(`metadata.${name}`, value)]));

/** @throws HttpError 422 for a condition that says nothing, or both kinds of things */
function filterOf(fields: Readonly<Record<string, Message>>): Filter | undefined {
  const entries = Object.entries(fields);
  if (entries.length === 0) return undefined;
  return Object.fromEntries(
    entries.map(([name, condition]) => {
      const where = `filter.${name}`;
      const given = bounds.filter((each) => condition[each]);
      if (condition.in.length > 0 === given.length > 0)
        throw wrong(`${where}: expected in, or bounds, got ${given.length > 0 ? 'both' : 'neither'}`);
      if (given.length === 0) return [name, { in: condition.in.map((each: Message) => scalarOf(where, each)) }];
      return [name, Object.fromEntries(given.map((each) => [each, scalarOf(where, condition[each])]))];
    }),
  );
}

const described = (result: FoundResult) => ({
  ...('id' in result
    ? { id: result.id, metadata: Object.fromEntries(Object.entries(result.metadata).map(packed)) }
    : { id: result.path, index: result.index }),
  score: result.score,
  similarity: result.similarity,
  ...(result.match !== null && { match: result.match }),
  dual_rank: result.dualRank,
});

const packed = ([name, value]: readonly [string, Scalar]) =>
  [
    name,
    typeof value === 'string' ? { text: value } : typeof value === 'number' ? { number: value } : { flag: value },
  ] as const;

const wrong = (message: string) => new HttpError(422, 'MOME_INVALID_ARGUMENT', message);
