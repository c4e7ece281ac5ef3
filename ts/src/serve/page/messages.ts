/** What the server tells its page. Types alone: they are shared with the code that runs in browsers. */
import type { Ability } from '../../inference/index.ts';

/** A model of the server. */
export interface PageModel {
  readonly name: string;
  readonly device: string;
  readonly dtype: string;
  /** Kernel set. */
  readonly target: string;
  readonly abilities: readonly Ability[];
  /** Whether `match` is a probability. */
  readonly isCalibrated: boolean;
  readonly imageSize: number;
  readonly width: number;
  readonly layers: number;
  /** Longest text, in word pieces. */
  readonly maxTextLength: number;
  readonly memoryBytes: number;
}

/** A picture of the index: its number, and its path from the folder of the index. */
export interface NamedPicture {
  readonly index: number;
  readonly path: string;
}

/** `GET page/state`: what does not change from second to second. */
export interface PageState {
  readonly version: string;
  /** Changes whenever a model is replaced. */
  readonly stamp: string;
  readonly models: readonly PageModel[];
  /** Absent where the server has no index of files. */
  readonly index?: { readonly pictures: number; readonly some: readonly NamedPicture[] };
  /** Whether it has a store of vectors, whose rows the page does not show. */
  readonly hasStore?: boolean;
  readonly limits: { readonly pictureBytes: number; readonly textLength: number };
}

/** One second of the server's life; all numbers are of that second. */
export interface LiveSample {
  /** Milliseconds since 1970 at its end. */
  readonly at: number;
  /** Requests for results that were answered; those refused because the queue was full; those that failed by the server's fault. */
  readonly requests: number;
  readonly refused: number;
  readonly failed: number;
  /** Milliseconds that half, and 95 of 100, of the answered requests took at most; null where there were none. */
  readonly p50: number | null;
  readonly p95: number | null;
  readonly tokens: number;
  readonly runs: number;
  /** Token rows of a run by those that it may have, on average of the runs; null where there were none. */
  readonly fill: number | null;
  /** Seconds that engines worked, summed over them. A run counts when it ends. */
  readonly busy: number;
  /** Items under way, and those of them that wait for a run. */
  readonly queue: number;
  readonly waiting: number;
}

/** `GET page/live?since=<next>`: the seconds since then, at most all that are kept. */
export interface LiveAnswer {
  readonly stamp: string;
  readonly isReady: boolean;
  /** What to ask for next. */
  readonly next: number;
  readonly samples: readonly LiveSample[];
}
