/** What `/v1/search` looks in: an index in memory, one that stays on disk, or a store of vectors. */
import { relative } from 'node:path';
import type { ImageInput } from '../inference/index.ts';
import { describe } from '../runtime/arguments.ts';
import { MomeError, ofOuterCall } from '../runtime/errors.ts';
import {
  DiskIndex,
  type Filter,
  SearchIndex,
  type SearchModel,
  type SearchQuery,
  type SearchResult,
  type StoreItem,
  type StoreResult,
  type VectorMatch,
  VectorStore,
} from '../search/index.ts';
import { HttpError } from './errors.ts';
import type { NamedPicture } from './page/messages.ts';

/** What a server can search. */
export type ServableIndex = SearchIndex | DiskIndex | VectorStore;

/** Where the picture of a row of a store is, for re-ranking. */
export type PictureOf = (match: VectorMatch) => ImageInput;

/** A search as a request asks for it. */
export interface AskedSearch {
  readonly query: SearchQuery;
  readonly k?: number | undefined;
  readonly rerank?: number | undefined;
  readonly filter?: Filter | undefined;
}

/** What a call of an index goes through, the queue of its model, and the signal that ends it. */
export interface IndexCall {
  readonly through: SearchModel;
  readonly signal?: AbortSignal;
}

/** Pictures embedded and written, and those passed over because their ids are there. */
export interface AddedItems {
  readonly added: number;
  readonly present: number;
}

/** A result as a client reads it: of an index of files its path from the folder, of a store its id and metadata. */
export type FoundResult = SearchResult | StoreResult;

/** Pictures that have numbers from 0. */
export interface NumberedPictures {
  readonly count: number;
  /** Absolute path of a picture. */
  pathOf(number: number): Promise<string>;
  /** Its path from the folder of the index. */
  shownPath(path: string): string;
}

/** An index of a server: one form for every kind. */
export interface ServedIndex {
  readonly source: ServableIndex;
  readonly kind: 'memory' | 'disk' | 'store';
  /** The pictures of an index of files; a store has none by number. */
  readonly pictures: NumberedPictures | undefined;
  /** Whether a text query can be re-ranked: the pictures can be read. */
  readonly canRerank: boolean;
  count(signal?: AbortSignal): Promise<number>;
  /** @throws HttpError 422 for what this kind cannot do; MomeError as `SearchIndex.search` and `VectorStore.search` */
  search(asked: AskedSearch, call: IndexCall): Promise<readonly FoundResult[]>;
  /** @throws MomeError `MOME_UNSUPPORTED` for an index of files; as `embedImages` and `VectorStore.upsert` */
  add(items: readonly StoreItem[], replace: boolean, call: IndexCall): Promise<AddedItems>;
  /** @returns how many were there. @throws MomeError `MOME_UNSUPPORTED` for an index of files; as `VectorStore.delete` */
  remove(ids: readonly string[], signal?: AbortSignal): Promise<number>;
}

/**
 * @param pictureOf of a store; without it text queries are not re-ranked: an id that came over the network names no file of the server
 * @throws MomeError `MOME_INVALID_ARGUMENT`
 */
export function servedIndex(source: ServableIndex, pictureOf: PictureOf | undefined): ServedIndex {
  if (source instanceof SearchIndex) {
    const { items } = source;
    const pathOf = async (number: number) => items[number]!.path;
    return servedFiles(source, 'memory', { count: items.length, pathOf });
  }
  if (source instanceof DiskIndex) {
    const pathOf = async (number: number) => (await source.items(number, number + 1))[0]!.path;
    return servedFiles(source, 'disk', { count: source.count, pathOf });
  }
  if (source instanceof VectorStore) return servedStore(source, pictureOf);
  throw new MomeError(
    'MOME_INVALID_ARGUMENT',
    `createServer: expected index to be a SearchIndex, a DiskIndex or a VectorStore, got ${describe(source)}`,
  );
}

/** Pictures from all over the index. */
export async function somePictures(pictures: NumberedPictures, most: number): Promise<NamedPicture[]> {
  const count = Math.min(most, pictures.count);
  const numbers = Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * pictures.count) / count));
  return Promise.all(numbers.map(async (index) => ({ index, path: pictures.shownPath(await pictures.pathOf(index)) })));
}

function servedFiles(
  source: SearchIndex | DiskIndex,
  kind: 'memory' | 'disk',
  { count, pathOf }: Omit<NumberedPictures, 'shownPath'>,
): ServedIndex {
  // Where the folder lies is nobody's business.
  const shownPath = (path: string) => relative(source.root, path);
  const unchangeable = async (): Promise<never> => {
    throw new MomeError(
      'MOME_UNSUPPORTED',
      'expected a server with a store of vectors, got one with an index of files; "mome index" brings that up to date',
    );
  };
  return {
    source,
    kind,
    pictures: { count, pathOf, shownPath },
    canRerank: true,
    count: async () => count,
    search: async ({ query, k, rerank, filter }, call) => {
      if (filter !== undefined)
        throw new HttpError(
          422,
          'MOME_UNSUPPORTED',
          'filter: expected a store of vectors, got an index of files, whose pictures have no metadata',
          'filter',
        );
      const found = await source.search(query, { ...call, ...given({ k, rerank }) });
      return found.map((result) => ({ ...result, path: shownPath(result.path) }));
    },
    add: unchangeable,
    remove: unchangeable,
  };
}

function servedStore(source: VectorStore, pictureOf: PictureOf | undefined): ServedIndex {
  const adding: Adding = new Map();
  return {
    source,
    kind: 'store',
    pictures: undefined,
    canRerank: pictureOf !== undefined,
    count: (signal) => source.count(given({ signal })),
    search: async ({ query, k, rerank, filter }, call) => {
      if (!pictureOf && rerank)
        throw new HttpError(
          422,
          'MOME_UNSUPPORTED',
          'rerank: expected 0, for this server is not told where the pictures of its store are',
          'rerank',
        );
      const how = pictureOf ? { pictureOf, ...given({ rerank }) } : { rerank: 0 };
      return source.search(query, { ...call, ...how, ...given({ k, filter }) });
    },
    add: (items, replace, call) => addToStore(source, items, replace, adding, call),
    remove: (ids, signal) => source.delete(ids, given({ signal })),
  };
}

/** Ids that requests write at the moment. */
type Adding = Map<string, Promise<unknown>>;

/** Does `work` while no other request writes one of the ids: else two that look at the same time would both add them. */
async function alone<T>(ids: readonly string[], adding: Adding, work: () => Promise<T>): Promise<T> {
  while (ids.some((id) => adding.has(id))) await Promise.allSettled(ids.map((id) => adding.get(id)));
  const done = work();
  for (const id of ids) adding.set(id, done);
  try {
    return await done;
  } finally {
    for (const id of ids) adding.delete(id);
  }
}

/** Embeds all pictures first: where one of them cannot be read, nothing is written. */
async function addToStore(
  store: VectorStore,
  items: readonly StoreItem[],
  replace: boolean,
  adding: Adding,
  { through, signal }: IndexCall,
): Promise<AddedItems> {
  const call = given({ signal });
  const ids = [...new Set(items.map(({ id }) => id))];
  const known = replace ? new Set<string>() : await store.present(ids, call);
  const missing = items.filter(({ id }) => !known.has(id));
  if (missing.length === 0) return { added: 0, present: ids.length };
  const images = missing.map(({ image }) => image);
  const { embeddings, width } = await through.embedImages(images, call).catch((error: unknown) => {
    const index = error instanceof MomeError && error.index !== undefined ? error.index : undefined;
    throw index === undefined
      ? error
      : ofOuterCall(error, 'add', { kind: 'item', index: items.indexOf(missing[index]!) });
  });
  const rows = missing.map(({ id, metadata }, i) => ({
    id,
    vector: embeddings.slice(i * width, (i + 1) * width),
    ...(metadata && { metadata }),
  }));
  return alone(ids, adding, async () => {
    // While the pictures were embedded another request may have added some.
    const present = replace ? new Set<string>() : await store.present(ids, call);
    await store.upsert(
      rows.filter(({ id }) => !present.has(id)),
      call,
    );
    return { added: ids.length - present.size, present: present.size };
  });
}

/** The fields that have a value. */
function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
