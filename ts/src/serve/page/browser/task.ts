/// <reference lib="dom" />
/** One thing at a time that a form asks of the server: a new one ends the one before, Escape ends it, and its errors are shown. */
import { ApiError } from './api.ts';
import { duration, fill, make } from './dom.ts';

/** What an error means, in words for people. */
function titleOf({ status, code }: ApiError): string {
  if (status === 0) return 'The server does not answer';
  if (status === 429) return 'The server has as much work as it takes';
  if (status === 504) return 'The answer was not ready in time';
  if (status === 503) return 'The server is ending or starting';
  if (status === 413) return 'That is too large';
  if (code === 'MOME_INVALID_IMAGE') return 'This file is no picture that the server can read';
  return status >= 500 ? 'The server failed' : 'The server cannot do that';
}

export class Task {
  readonly #message: HTMLElement;
  #stop: AbortController | undefined;
  #timer: number | undefined;

  /** @param message where errors are shown */
  constructor(message: HTMLElement) {
    this.#message = message;
    message.setAttribute('role', 'alert');
  }

  get isRunning(): boolean {
    return this.#stop !== undefined;
  }

  /** Ends what runs. */
  stop(): void {
    this.#stop?.abort();
    this.#stop = undefined;
  }

  /** Shows something that is wrong before anything is sent. */
  complain(title: string, detail = ''): void {
    this.stop();
    this.#show(title, detail);
  }

  clear(): void {
    clearTimeout(this.#timer);
    fill(this.#message);
  }

  /**
   * Does `work`. Errors are shown with a button that does it again.
   *
   * @returns what it gives; undefined where it failed or was ended
   */
  async run<T>(work: (signal: AbortSignal) => Promise<T>, again: () => void): Promise<T | undefined> {
    this.stop();
    this.clear();
    const stop = new AbortController();
    this.#stop = stop;
    try {
      const result = await work(stop.signal);
      return stop.signal.aborted ? undefined : result;
    } catch (error) {
      if (stop.signal.aborted) return undefined;
      if (!(error instanceof ApiError)) throw error;
      this.#show(titleOf(error), error.status === 0 ? '' : error.message, again, error.retryAfterMs);
      return undefined;
    } finally {
      if (this.#stop === stop) this.#stop = undefined;
    }
  }

  #show(title: string, detail: string, again?: () => void, wait?: number): void {
    clearTimeout(this.#timer);
    const button = again && make('button', { type: 'button' }, ['Try again'], { click: again });
    const parts = [make('strong', {}, [`${title}.`])];
    if (wait !== undefined) parts.push(make('span', {}, [` It asks to wait ${duration(Math.max(wait, 100))}.`]));
    if (detail !== '') parts.push(make('span', { class: 'detail' }, [detail]));
    fill(this.#message, make('div', { class: 'notice bad' }, [make('p', {}, parts), button]));
    if (!button || wait === undefined) return;
    // Whoever comes before the time that the server names is refused again.
    button.disabled = true;
    this.#timer = window.setTimeout(() => {
      button.disabled = false;
    }, wait);
  }
}
