/** Items of a source, read ahead of whoever takes them, but never further than a batch. */
import { Pace } from '../runtime/pace.ts';
import type { Source } from '../runtime/source.ts';

export class ReadAhead<T> {
  readonly #source: Source;
  readonly #most: number;
  readonly #accept: (value: unknown, index: number) => T;
  #items: T[] = [];
  #count = 0;
  #isFilling = false;
  #isPulling = false;
  #hasEnded = false;
  #failure: { readonly error: unknown } | undefined;
  #wake = () => {};

  /**
   * @param most items held at most
   * @param accept takes a value over as soon as it was read, or throws
   */
  constructor(source: Source, most: number, accept: (value: unknown, index: number) => T) {
    this.#source = source;
    this.#most = most;
    this.#accept = accept;
  }

  /**
   * Waits until there is an item, and takes all that are there by then. Items that were read before an error come first.
   *
   * @param ended rejects when the wait is to end
   * @returns none at the end
   * @throws what the source or `accept` threw
   */
  async take(ended: Promise<never>): Promise<T[]> {
    this.#fill();
    if (this.#items.length === 0 && !this.#isOver)
      await Promise.race([
        new Promise<void>((resolve) => {
          this.#wake = resolve;
        }),
        ended,
      ]);
    // What a source gives at once comes along: one item alone is a small run.
    if (!this.#isOver) await Promise.race([new Promise<void>((resolve) => setImmediate(resolve)), ended]);
    const items = this.#items;
    this.#items = [];
    if (items.length === 0 && this.#failure) throw this.#failure.error;
    this.#fill();
    return items;
  }

  /** Ends the source, unless it has ended by itself. Waits for it, but for no read that is under way. */
  async stop(): Promise<void> {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    const stopped = this.#source.stop();
    if (!this.#isPulling) await stopped;
  }

  get #isOver(): boolean {
    return this.#hasEnded || this.#failure !== undefined;
  }

  #fill(): void {
    if (this.#isFilling || this.#isOver) return;
    this.#isFilling = true;
    void this.#read().finally(() => {
      this.#isFilling = false;
      this.#wake();
    });
  }

  async #read(): Promise<void> {
    const pace = new Pace();
    try {
      while (!this.#isOver && this.#items.length < this.#most) {
        this.#isPulling = true;
        const { done, value } = await this.#source.next();
        this.#isPulling = false;
        if (this.#isOver) return;
        if (done) this.#hasEnded = true;
        else this.#items.push(this.#accept(value, this.#count++));
        this.#wake();
        await pace.rest();
      }
    } catch (error) {
      this.#isPulling = false;
      this.#failure = { error };
    }
  }
}
