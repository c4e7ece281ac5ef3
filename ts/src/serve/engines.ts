/** The models of a server by name, each with its queue; one can be replaced while requests go on. */
import { type Batcher, type RunReport, Vlmo } from '../inference/vlmo.ts';
import { describe, isObject } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { HttpError } from './errors.ts';
import type { ServerOptions } from './options.ts';

/** One model and its queue. */
export interface ServedEngine {
  readonly name: string;
  readonly vlmo: Vlmo;
  readonly batcher: Batcher;
  /** Seconds since 1970 at which it was put in place. */
  readonly since: number;
}

export class Engines {
  readonly #engines = new Map<string, ServedEngine>();
  readonly #options: ServerOptions & { readonly queueItems: number };
  readonly #onRun: (engine: string, report: RunReport) => void;

  /** @throws MomeError `MOME_INVALID_ARGUMENT` unless `models` is a model, or an object of at least one with names */
  constructor(
    models: Vlmo | Readonly<Record<string, Vlmo>>,
    options: ServerOptions & { readonly queueItems: number },
    onRun: (engine: string, report: RunReport) => void,
  ) {
    this.#options = options;
    this.#onRun = onRun;
    const named = models instanceof Vlmo ? { mome: models } : models;
    check(
      isObject(named) && Object.keys(named).length > 0,
      'MOME_INVALID_ARGUMENT',
      `createServer: expected a model, or models by name, got ${describe(models)}`,
    );
    for (const [name, vlmo] of Object.entries(named)) this.#put(name, vlmo);
  }

  #put(name: string, vlmo: Vlmo): void {
    check(
      /^[\w.:-]{1,100}$/.test(name),
      'MOME_INVALID_ARGUMENT',
      `createServer: expected names of engines of letters, digits and . : _ -, got ${JSON.stringify(name.slice(0, 120))}`,
    );
    check(
      vlmo instanceof Vlmo,
      'MOME_INVALID_ARGUMENT',
      `createServer: expected a model as engine ${name}, got ${describe(vlmo)}`,
    );
    const { queueItems, cacheBytes = 0, runsAhead = 0 } = this.#options;
    const onRun = (report: RunReport) => this.#onRun(name, report);
    const batcher = vlmo.batcher({ maxItems: queueItems, cacheBytes, runsAhead, onRun });
    this.#engines.set(name, { name, vlmo, batcher, since: Math.floor(Date.now() / 1000) });
  }

  get all(): readonly ServedEngine[] {
    return [...this.#engines.values()];
  }

  get first(): ServedEngine {
    return this.#engines.values().next().value!;
  }

  has(name: string): boolean {
    return this.#engines.has(name);
  }

  /**
   * The engine that a request names; the first where it names none. A server of one model answers to any name: clients that are made for
   * another service always send one.
   *
   * @throws HttpError 404 for a name that none of several has
   */
  get(name?: string): ServedEngine {
    const found = name === undefined || this.#engines.size === 1 ? this.first : this.#engines.get(name);
    if (found) return found;
    const names = [...this.#engines.keys()].join(', ');
    throw new HttpError(404, 'MODEL_NOT_FOUND', `expected one of the models ${names}, got another`, 'model');
  }

  /** Replaces a model: new calls go to the new one. @returns when all calls of the old one are done */
  async replace(name: string, vlmo: Vlmo): Promise<void> {
    const old = this.#engines.get(name);
    this.#put(name, vlmo);
    await old?.batcher.close();
  }

  /** Refuses new calls, and waits until those under way are done. */
  async close(): Promise<void> {
    await Promise.all(this.all.map(({ batcher }) => batcher.close()));
  }
}
