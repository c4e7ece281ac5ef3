/** The early end of a call in a queue. */
import { MomeError } from '../runtime/errors.ts';

/**
 * Says that nobody wants a call any more, and why. An AbortController for each call would cost as much as all else that a queue does for a
 * text: one is made only when `signal` is read.
 */
export class CallEnd {
  #reason: unknown;
  #isOver = false;
  readonly #callbacks = new Set<() => void>();
  #controller: AbortController | undefined;

  get isOver(): boolean {
    return this.#isOver;
  }

  /** What the call rejects with. */
  get reason(): unknown {
    return this.#reason;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#isOver) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** Ends the call; a second end changes nothing. */
  end(reason: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reason = reason;
    this.#controller?.abort(reason);
    for (const callback of [...this.#callbacks]) callback();
  }

  throwIfOver(): void {
    if (this.#isOver) throw this.#reason;
  }

  /** Calls `callback` once when the call ends early. @returns a function after which it is no longer called */
  onEnd(callback: () => void): () => void {
    this.#callbacks.add(callback);
    return () => this.#callbacks.delete(callback);
  }
}

/** Most milliseconds of a timer, 25 days: Node fires longer ones at once. */
export const longestTimer = 2 ** 31 - 1;

/** The error of a call whose time is up. */
export const deadlinePassed = (where: string, timeout: number): MomeError =>
  new MomeError('MOME_DEADLINE', `${where}: expected to be done within ${timeout} ms, was not`);
