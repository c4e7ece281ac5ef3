/** The models of a server by name, each with its queue; one can be replaced while requests go on. */
import { type Batcher, type RunReport, Vlmo } from '../inference/index.ts';
import { describe, isObject } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { HttpError } from './errors.ts';
import type { ServerLimits, ServerOptions } from './options.ts';
import { type ServableIndex, type ServedIndex, servedIndex } from './served-index.ts';

/** One model and its queue. */
export interface ServedEngine {
  readonly name: string;
  readonly vlmo: Vlmo;
  readonly batcher: Batcher;
  /** What `/v1/search` looks in with it. */
  readonly index: ServedIndex | undefined;
  /** Seconds since 1970 at which it was put in place. */
  readonly since: number;
}

/** What every engine of a server is told. */
export type EngineOptions = ServerOptions & Pick<ServerLimits, 'queueItems' | 'pixels'>;

export class Engines {
  readonly #engines = new Map<string, ServedEngine>();
  /** Requests that use an engine at the moment, and who waits for their end. */
  readonly #users = new Map<ServedEngine, { count: number; onEnd?: () => void }>();
  readonly #options: EngineOptions;
  readonly #onRun: (engine: string, report: RunReport) => void;

  /** @throws MomeError `MOME_INVALID_ARGUMENT` unless `models` is a model, or an object of at least one with names */
  constructor(
    models: Vlmo | Readonly<Record<string, Vlmo>>,
    options: EngineOptions,
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
    for (const [i, [name, vlmo]] of Object.entries(named).entries())
      this.#put(name, vlmo, i === 0 ? options.index : undefined);
  }

  #put(name: string, vlmo: Vlmo, index: ServableIndex | undefined): void {
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
    const served = index === undefined ? undefined : servedIndex(index, this.#options.pictureOf);
    check(
      served === undefined || served.source.fingerprint === vlmo.fingerprint,
      'MOME_UNSUPPORTED',
      `createServer: expected an index that was made with the model ${name}, got one of another model`,
    );
    const { queueItems, pixels, cacheBytes = 0, runsAhead = 0 } = this.#options;
    const onRun = (report: RunReport) => this.#onRun(name, report);
    const batcher = vlmo.batcher({ maxItems: queueItems, maxPixels: pixels, cacheBytes, runsAhead, onRun });
    this.#engines.set(name, { name, vlmo, batcher, index: served, since: Math.floor(Date.now() / 1000) });
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

  /** Keeps an engine open for a request, which may make several calls. @returns lets it go */
  hold(engine: ServedEngine): () => void {
    const users = this.#users.get(engine) ?? { count: 0 };
    this.#users.set(engine, users);
    users.count++;
    return () => {
      if (--users.count > 0) return;
      this.#users.delete(engine);
      users.onEnd?.();
    };
  }

  /**
   * Replaces a model, and the index of one that has an index: new requests go to the new ones.
   *
   * @param index default: the present one, which has to be of the same model
   * @returns when all requests of the old one are done
   * @throws MomeError `MOME_UNSUPPORTED` for an index of another model; then the old ones go on
   */
  async replace(name: string, vlmo: Vlmo, index?: ServableIndex): Promise<void> {
    const old = this.#engines.get(name);
    this.#put(name, vlmo, index ?? old?.index?.source);
    if (!old) return;
    const users = this.#users.get(old);
    if (users)
      await new Promise<void>((resolve) => {
        users.onEnd = resolve;
      });
    await old.batcher.close();
  }

  /** Refuses new calls, and waits until those under way are done. */
  async close(): Promise<void> {
    await Promise.all(this.all.map(({ batcher }) => batcher.close()));
  }
}
