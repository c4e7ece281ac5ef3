/** The bytes that all requests under way hold together, whatever protocol brings them. */
import { HttpError } from './errors.ts';

export class HeldBytes {
  readonly #most: number;
  readonly #of = new WeakMap<object, number>();
  #together = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Begins to count what a request holds. */
  open(request: object): void {
    this.#of.set(request, 0);
  }

  /** Counts bytes of a request until it ends. @throws HttpError 429 where there is no room for them */
  add(request: object, bytes: number): void {
    const held = this.#of.get(request);
    if (held === undefined) return; // it has ended
    this.#of.set(request, held + bytes);
    this.#together += bytes;
    if (this.#together <= this.#most) return;
    throw new HttpError(
      429,
      'MOME_OVERLOADED',
      'expected room for what this request brings, the server holds too much at the moment',
    );
  }

  /** Gives back what a request holds: it has ended. @returns bytes */
  close(request: object): number {
    const held = this.#of.get(request) ?? 0;
    this.#of.delete(request);
    this.#together -= held;
    return held;
  }
}
