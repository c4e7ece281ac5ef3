/** What the calls of a `VectorStore` take and give. */
import type { ImageInput } from '../../inference/index.ts';
import { type Kinds, kinds, withMethods } from '../../runtime/arguments.ts';
import { type QueryOptions, queryKinds, type SearchModel } from '../query.ts';
import type { VectorRow } from './backend.ts';
import type { Filter, Metadata } from './filter.ts';

/** A row that a query has found. */
export interface VectorMatch {
  readonly id: string;
  readonly metadata: Metadata;
  /** Cosine of its vector and that of the query. */
  readonly similarity: number;
}

export interface StoreCallOptions {
  readonly signal?: AbortSignal;
}

export interface FilterOptions extends StoreCallOptions {
  readonly filter?: Filter;
}

/** A picture that is to be in a store. */
export interface StoreItem {
  readonly id: string;
  readonly image: ImageInput;
  readonly metadata?: Metadata;
}

export interface AddOptions extends StoreCallOptions {
  /** Embeds and writes also those whose ids are there already; default false. */
  readonly replace?: boolean;
  /** What embeds, as in a search; default: the model of the store. */
  readonly through?: Pick<SearchModel, 'fingerprint' | 'embedImages'>;
  /** Called after each batch that was written; the call waits for a promise that it returns. */
  readonly onProgress?: (progress: Added) => void;
  /** Called for each picture that cannot be read; without it the call rejects with the first. */
  readonly onError?: (id: string, error: unknown) => void;
}

/** Pictures embedded and written, passed over because they are there, and left out because they cannot be read. */
export interface Added {
  readonly added: number;
  readonly present: number;
  readonly failed: number;
}

export interface StoreSearchOptions extends QueryOptions {
  readonly filter?: Filter;
  /** The picture of a row, for re-ranking; default: its id is the path. */
  readonly pictureOf?: (match: VectorMatch) => ImageInput;
  /** Called for each candidate whose picture cannot be read; it is not re-ranked. */
  readonly onError?: (id: string, error: unknown) => void;
}

/** A result of a search, as `SearchResult`. */
export interface StoreResult extends VectorMatch {
  readonly score: number;
  readonly match: number | null;
  readonly dualRank: number;
}

/** A result that is still to be put in order. */
export type OwnResult = { -readonly [K in keyof StoreResult]: StoreResult[K] };

export const backendKind = withMethods(
  'a backend, such as exactBackend()',
  'open',
  'upsert',
  'delete',
  'present',
  'nearest',
  'count',
);
export const callKinds: Kinds<StoreCallOptions> = { signal: kinds.signal };
const anything = { expected: 'a filter', accepts: () => true };
export const filterKinds: Kinds<FilterOptions> = { ...callKinds, filter: anything };
export const addKinds: Kinds<AddOptions> = {
  ...callKinds,
  replace: kinds.flag,
  through: withMethods('a model or a batcher', 'embedImages'),
  onProgress: kinds.callback,
  onError: kinds.callback,
};
export const searchKinds: Kinds<StoreSearchOptions> = {
  ...queryKinds,
  filter: anything,
  pictureOf: kinds.callback,
  onError: kinds.callback,
};
export const itemKinds: Kinds<StoreItem> = {
  id: kinds.text,
  image: { expected: 'a picture', accepts: () => true },
  metadata: { expected: 'an object', accepts: () => true },
};
export const rowKinds: Kinds<VectorRow> = { id: kinds.text, vector: kinds.floats, metadata: itemKinds.metadata };
