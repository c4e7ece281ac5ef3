/**
 * What the calls of a model take beside their items, and what they give.
 */

/** Options of every call. */
export interface CallOptions {
  /** Stops the call; it rejects with `MOME_ABORTED`. */
  readonly signal?: AbortSignal;
  /** Called after each batch with the number of items done. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Options of calls that propose the best few. */
export interface TopOptions extends CallOptions {
  /** How many; default 5. */
  readonly k?: number;
}

/** Rows of one call: row i belongs to input i. */
export interface Embeddings {
  /** [count, width] numbers, every row of length 1. */
  readonly embeddings: Float32Array;
  readonly count: number;
  readonly width: number;
}

export interface Ranked {
  /** Place of the candidate in the call. */
  readonly index: number;
  /** Probability that text and picture belong together. */
  readonly score: number;
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
