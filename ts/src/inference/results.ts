/**
 * What the calls of a model take beside their items, and what they give.
 */
import { type Kinds, kinds, oneOf } from '../runtime/arguments.ts';

/** Options of every call. */
export interface CallOptions {
  /** Stops the call; it rejects with `MOME_ABORTED`, and the signal's reason as `cause`. */
  readonly signal?: AbortSignal;
  /**
   * Called after each batch with the number of items done. The call waits for a promise that it returns, and rejects with what it throws.
   */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Options of calls that propose the best few. */
export interface TopOptions extends CallOptions {
  /** How many; default 5. */
  readonly k?: number;
}

/** Options of `rerank`. */
export interface RerankOptions extends CallOptions {
  /**
   * Cosine of the query and each candidate, from whoever keeps the vectors; they are not embedded again. Default: computed.
   */
  readonly similarities?: readonly number[] | Float32Array | Float64Array;
  /**
   * `fused` (default): by `fusedScore`. `original`: by the second logit of the matching head plus the cosine, as the original's evaluation
   * does.
   */
  readonly rule?: 'fused' | 'original';
}

export const callKinds: Kinds<CallOptions> = { signal: kinds.signal, onProgress: kinds.callback };
export const topKinds: Kinds<TopOptions> = { ...callKinds, k: kinds.count };
export const rerankKinds: Kinds<RerankOptions> = {
  ...callKinds,
  similarities: {
    expected: 'a list of numbers, a Float32Array or a Float64Array',
    accepts: (value) => Array.isArray(value) || ArrayBuffer.isView(value),
  },
  rule: oneOf(['fused', 'original']),
};

/** A candidate and what both encoders say of it. */
export interface Ranked {
  /** Place of the candidate in the call. */
  readonly index: number;
  /** What candidates are ordered by, see `RerankOptions.rule`: any number, the higher the better. */
  readonly score: number;
  /** Cosine of the embeddings of query and candidate. */
  readonly similarity: number;
  /** What `match` gives for query and candidate. */
  readonly match: number;
}

export interface AnswerCandidate {
  /** The words of the model's `answers.json`, or `answer <index>` where there is none. */
  readonly answer: string;
  readonly score: number;
}

export interface MaskCandidates {
  /** Token position in the text, CLS = 0. */
  readonly position: number;
  readonly candidates: readonly { readonly token: string; readonly score: number }[];
}

/** What a model has to do at the moment. */
export interface ModelState {
  /** Runs that are computed: 1, or 0 for a model that is idle or waits for pictures. */
  readonly running: number;
  /** Calls, and runs of its queues, that prepare their pictures or wait for their turn. */
  readonly pending: number;
}
