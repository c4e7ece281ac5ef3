/** What requests ask of the index, whatever carries them: a search, pictures to add, rows to remove, and what it is. */
import { z } from 'zod';
import { deadlinePassed, longestTimer } from '../inference/batch-end.ts';
import type { BatchedOptions } from '../inference/index.ts';
import { onAbort } from '../runtime/abort.ts';
import type { StoreItem } from '../search/index.ts';
import type { Engines, ServedEngine } from './engines.ts';
import { HttpError } from './errors.ts';
import type { AddedItems, AskedSearch, FoundResult, IndexCall, ServedIndex } from './served-index.ts';

/** Most results that may be asked for, and most pictures that are re-ranked. */
const mostResults = 1000;
const mostReranked = 256;
/** Most fields of a filter or of metadata; the store says no to more than it takes. */
const mostFields = 256;

export const kSchema = z.int().min(1).max(mostResults).optional();
export const rerankSchema = z.int().min(0).max(mostReranked).optional();
const scalar = z.union([z.string(), z.number(), z.boolean()]);
const fieldsOf = <T extends z.ZodType>(value: T) =>
  z.record(z.string().max(200), value).refine((fields) => Object.keys(fields).length <= mostFields, {
    error: `expected at most ${mostFields} fields`,
  });
export const metadataSchema = fieldsOf(scalar);
const bound = z.union([z.string(), z.number()]).optional();
export const filterSchema = fieldsOf(
  z.union([
    scalar,
    z.strictObject({ in: z.array(scalar).max(1000) }),
    z.strictObject({ gt: bound, gte: bound, lt: bound, lte: bound }),
  ]),
).describe(
  'Of a store: conditions on metadata, all of which must hold. A value, { "in": [...] }, or { "gt", "gte", "lt", "lte" }.',
);

/** What an index is. */
export interface DescribedIndex {
  readonly model: string;
  /** In memory, on disk, or a store of vectors. */
  readonly kind: ServedIndex['kind'];
  /** Pictures or rows. */
  readonly count: number;
  readonly can_rerank: boolean;
  readonly can_filter: boolean;
  readonly is_writable: boolean;
}

/** The index of a model. @throws HttpError 422 for a model without one */
export function indexOf(engines: Engines, { index }: ServedEngine): ServedIndex {
  if (index) return index;
  if (!engines.first.index)
    throw new HttpError(422, 'MOME_UNSUPPORTED', 'expected a server with an index or a store, got one without');
  throw new HttpError(
    422,
    'MOME_UNSUPPORTED',
    `model: expected ${engines.first.name}, the model with an index, got another`,
    'model',
  );
}

export async function describeIndex(
  engines: Engines,
  engine: ServedEngine,
  isWritable: boolean,
  options: BatchedOptions,
): Promise<DescribedIndex> {
  const index = indexOf(engines, engine);
  return {
    model: engine.name,
    kind: index.kind,
    count: await inTime(engine, options, ({ signal }) => index.count(signal)),
    can_rerank: index.canRerank && engine.vlmo.abilities.has('match'),
    can_filter: index.kind === 'store',
    is_writable: index.kind === 'store' && isWritable,
  };
}

export function searchIndex(
  engines: Engines,
  engine: ServedEngine,
  asked: AskedSearch,
  options: BatchedOptions,
): Promise<readonly FoundResult[]> {
  const index = indexOf(engines, engine);
  return inTime(engine, options, (call) => index.search(asked, call));
}

/** @throws HttpError 403 where changes are not allowed; MomeError `MOME_UNSUPPORTED` for an index of files; as `ServedIndex.add` */
export function addToIndex(
  engines: Engines,
  engine: ServedEngine,
  isWritable: boolean,
  items: readonly StoreItem[],
  replace: boolean | undefined,
  options: BatchedOptions,
): Promise<AddedItems> {
  const index = writableIndexOf(engines, engine, isWritable);
  return inTime(engine, options, (call) => index.add(items, replace ?? false, call));
}

/** @throws HttpError 403 where changes are not allowed; MomeError `MOME_UNSUPPORTED` for an index of files; as `VectorStore.delete` */
export function removeFromIndex(
  engines: Engines,
  engine: ServedEngine,
  isWritable: boolean,
  ids: readonly string[],
  options: BatchedOptions,
): Promise<number> {
  const index = writableIndexOf(engines, engine, isWritable);
  return inTime(engine, options, ({ signal }) => index.remove(ids, signal));
}

/** The index of a model, for a change. An index of files says itself that it cannot be changed. @throws HttpError 403, 422 */
export function writableIndexOf(engines: Engines, engine: ServedEngine, isWritable: boolean): ServedIndex {
  const index = indexOf(engines, engine);
  if (index.kind !== 'store' || isWritable) return index;
  throw new HttpError(
    403,
    'CHANGES_NOT_ALLOWED',
    'expected a server whose store may be changed (--writable), got one that is only searched',
  );
}

/**
 * Makes a call of an index through the queue of the engine, and ends it with the time of its request. A store may take longer: a change
 * that it has begun goes on without anybody who waits for it.
 *
 * @throws MomeError `MOME_DEADLINE`; what `work` throws
 */
async function inTime<T>(
  { batcher }: ServedEngine,
  { signal, timeout, ...common }: BatchedOptions,
  work: (call: IndexCall) => Promise<T>,
): Promise<T> {
  if (timeout === undefined) return work({ through: batcher.request(common), ...(signal && { signal }) });
  const stop = new AbortController();
  const ended = onAbort(signal, () => stop.abort(signal?.reason));
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => {
        const error = deadlinePassed('index', timeout);
        reject(error);
        stop.abort(error);
      },
      Math.min(timeout, longestTimer),
    );
  });
  try {
    return await Promise.race([work({ through: batcher.request({ ...common, timeout }), signal: stop.signal }), late]);
  } finally {
    clearTimeout(timer);
    ended();
  }
}
