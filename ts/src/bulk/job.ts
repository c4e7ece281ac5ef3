/** A bulk job: embeds the inputs of one shard into parts, and goes on where an earlier process of the same job was stopped. */
import { setMaxListeners } from 'node:events';
import { join } from 'node:path';
import type { Batcher, Vlmo } from '../inference/index.ts';
import { check, type ErrorCode, expectation, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { makeFolder } from '../runtime/files.ts';
import { lockRun } from '../train/run-lock.ts';
import { inOrderAhead } from './ahead.ts';
import type { BulkInputs, BulkItem } from './inputs.ts';
import { type Format, PartWriter, type Row } from './parts.ts';
import { type Shard, shardFolder, unitsOf } from './shards.ts';
import { type JobIdentity, openState, requireOneJob, type ShardState, writeState } from './state.ts';

/** What an input can be refused with; every other error ends the job. */
export const itemErrors: readonly ErrorCode[] = [
  'MOME_INVALID_ARGUMENT',
  'MOME_INVALID_FILE',
  'MOME_INVALID_IMAGE',
  'MOME_NOT_FOUND',
  'MOME_TOO_LARGE',
  'MOME_NON_FINITE',
  'MOME_IO',
];

/** Inputs under way at a time, and bytes of them in memory: enough to prepare the next run while one goes on. */
export const itemsAhead = 256;
const bytesAhead = 2 ** 28;
/** So many inputs that fail one behind the other end the job: a folder that is gone is no broken picture. */
const mostFailuresInARow = 256;
const mostErrorCharacters = 500;

export interface BulkOptions {
  readonly output: string;
  readonly shard: Shard;
  readonly format: Format;
  /** Inputs of a part. */
  readonly partSize: number;
  /** Inputs that may fail, in all parts of the shard together; more end the job. */
  readonly maxErrors: number;
  /** Version of the library, for the files. */
  readonly version: string;
  /** Field or column of names, which is part of the job. */
  readonly id: string;
  /** Ends the job when the part under way is finished. */
  readonly stop: AbortSignal;
  /** Ends the job at once. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: BulkProgress) => void;
}

/** How far a shard has come. */
export interface BulkProgress {
  /** Finished parts and their rows, earlier processes included. */
  readonly parts: number;
  readonly rows: number;
  readonly errors: number;
  /** The last input that failed, of those since the last call. */
  readonly lastError: string | undefined;
  /** Share of the shard that is done, from 0 to 1. */
  readonly share: number;
  /** Rows of this process in a second, and seconds that are left at this rate. */
  readonly perSecond: number;
  readonly secondsLeft: number;
  /** Whether this process has just finished a part. */
  readonly isPart: boolean;
}

export interface BulkResult {
  readonly folder: string;
  readonly state: ShardState;
  /** Rows of this process. */
  readonly rows: number;
  readonly seconds: number;
}

/**
 * Embeds one shard. Each part is written under a temporary name, synced and renamed together with the state of the shard, so that a process
 * that is killed loses the part under way and nothing else. The same job gives the same bytes, however often it was stopped.
 *
 * @returns the state, `done` false where `stop` ended the job
 * @throws MomeError as {@link openState}; the error of an input when more than `maxErrors` fail; `MOME_IO`, `MOME_ABORTED`
 */
export async function runBulkJob(model: Vlmo, inputs: BulkInputs, options: BulkOptions): Promise<BulkResult> {
  const own = shardFolder(options.shard);
  const folder = join(options.output, own);
  await makeFolder(options.output);
  await requireOneJob(options.output, own, identityOf(model, inputs, options));
  await makeFolder(folder);
  const { lost, release } = await lockRun(folder, 'embed');
  const end = new AbortController();
  setMaxListeners(0, end.signal); // every input under way listens
  const abort = (signal: AbortSignal) => () => end.abort(signal.reason);
  lost.addEventListener('abort', abort(lost), { once: true });
  options.signal?.addEventListener('abort', abort(options.signal), { once: true });
  try {
    return await new Job(model, inputs, options, folder, end.signal).run();
  } catch (error) {
    lost.throwIfAborted();
    throw error;
  } finally {
    end.abort();
    await release();
  }
}

/** What must not change while a job goes on. */
function identityOf(model: Vlmo, inputs: BulkInputs, options: BulkOptions): JobIdentity {
  const { shard, format, partSize, version, id } = options;
  const { kind, units, identity } = inputs;
  return {
    mome: version,
    model: model.fingerprint,
    width: model.config.width,
    dtype: model.dtype,
    inputs: identity,
    kind,
    units,
    shard: `${shard.index}/${shard.count}`,
    format,
    partSize,
    id,
  };
}

class Job {
  readonly #model: Vlmo;
  readonly #batcher: Batcher;
  readonly #inputs: BulkInputs;
  readonly #options: BulkOptions;
  readonly #folder: string;
  readonly #signal: AbortSignal;
  readonly #begun = performance.now();
  #rows = 0;
  #failuresInARow = 0;
  #lastError: string | undefined;
  /** Share that was done when this process began. */
  #shareBefore = 0;

  constructor(model: Vlmo, inputs: BulkInputs, options: BulkOptions, folder: string, signal: AbortSignal) {
    this.#model = model;
    this.#batcher = model.batcher({ runsAhead: 1 });
    this.#inputs = inputs;
    this.#options = options;
    this.#folder = folder;
    this.#signal = signal;
  }

  async run(): Promise<BulkResult> {
    const { begin, end } = unitsOf(this.#options.shard, this.#inputs.units);
    let state = await openState(this.#folder, identityOf(this.#model, this.#inputs, this.#options), {
      unit: begin,
      item: 0,
    });
    this.#checkErrors(state.errors);
    this.#shareBefore = this.#inputs.progress(begin, state.next, end);
    const writer = new PartWriter(this.#options.format);
    try {
      while (!state.done) {
        state = await this.#parts(state, writer, begin, end);
        if (this.#options.stop.aborted) break;
      }
    } finally {
      await writer.close();
    }
    return { folder: this.#folder, state, rows: this.#rows, seconds: (performance.now() - this.#begun) / 1000 };
  }

  /** Does parts until the inputs end or the job is stopped. */
  async #parts(from: ShardState, writer: PartWriter, begin: number, end: number): Promise<ShardState> {
    const { partSize, stop } = this.#options;
    let state = from;
    let rows: Row[] = [];
    let errors = 0;
    const finish = async (next: ShardState['next'], done: boolean) => {
      const part = state.parts;
      const now = {
        ...state,
        parts: rows.length > 0 ? part + 1 : part,
        rows: state.rows + rows.length,
        errors: state.errors + errors,
        next,
        done,
      };
      const written = rows;
      await writeState(this.#folder, now, async (fileIn) => {
        if (written.length > 0) await writer.write(part, written, this.#about(), fileIn);
      });
      state = now;
      rows = [];
      errors = 0;
      this.#report(state, 0, 0, begin, next, end, true);
    };
    for await (const { item, result: row } of this.#embedded(state.next, end)) {
      rows.push(row);
      this.#rows++;
      if (row.error !== undefined) errors++;
      this.#checkErrors(state.errors + errors, row);
      this.#report(state, rows.length, errors, begin, item.next, end, false);
      if (rows.length < partSize) continue;
      await finish(item.next, item.next.unit === end);
      if (stop.aborted || state.done) return state;
    }
    await finish({ unit: end, item: 0 }, true);
    return state;
  }

  /** Rows in the order of the inputs, some of them computed ahead. */
  #embedded(from: ShardState['next'], end: number): AsyncGenerator<{ readonly item: BulkItem; readonly result: Row }> {
    const limits = { items: itemsAhead, bytes: bytesAhead, bytesOf: ({ bytes }: BulkItem) => bytes };
    return inOrderAhead(
      this.#inputs.items(from, end),
      (item) => this.#row(item),
      limits,
      () => requireNotAborted(this.#signal, 'embed'),
    );
  }

  async #row(item: BulkItem): Promise<Row> {
    const { source } = item;
    let name = item.name;
    let text: string | undefined;
    try {
      const content = await item.read();
      name = content.name ?? name;
      check(!('broken' in content), 'MOME_INVALID_FILE', 'broken' in content ? content.broken : '');
      const options = { priority: 'bulk', signal: this.#signal } as const;
      let found: Float32Array;
      if ('text' in content) {
        text = content.text;
        found = (await this.#batcher.embedTexts([text], options)).embeddings;
      } else found = (await this.#batcher.embedImages([content.picture], options)).embeddings;
      const wrong = found.findIndex((value) => !Number.isFinite(value));
      check(wrong < 0, 'MOME_NON_FINITE', `expected a finite embedding, got ${found[wrong]} at ${wrong}`);
      return { source, name, ...(text !== undefined && { text }), embedding: found };
    } catch (error) {
      if (!(error instanceof MomeError) || !itemErrors.includes(error.code)) throw error;
      const why = `${error.code}: ${expectation(error)}`.slice(0, mostErrorCharacters);
      return { source, name, ...(text !== undefined && { text }), error: why };
    }
  }

  /** @throws MomeError the error of the last input when there are more than allowed, or nothing else any more */
  #checkErrors(errors: number, last?: Row): void {
    const { maxErrors } = this.#options;
    if (last?.error === undefined) this.#failuresInARow = 0;
    else {
      this.#failuresInARow++;
      this.#lastError = `${last.source}: ${last.name}: ${last.error}`;
    }
    const [, code = 'MOME_INVALID_FILE', why = ''] = /^(\w+): (.*)$/s.exec(last?.error ?? '') ?? [];
    const example = last?.error === undefined ? '' : `; the last is ${last.name} of ${last.source}: ${why}`;
    check(
      errors <= maxErrors,
      code as ErrorCode,
      `embed: expected at most ${maxErrors} inputs that fail (--max-errors), got ${errors}${example}`,
    );
    check(
      this.#failuresInARow < mostFailuresInARow,
      code as ErrorCode,
      `embed: expected inputs that can be read, ${mostFailuresInARow} failed one behind the other${example}`,
    );
  }

  /** What files say of themselves. Nothing in it depends on when or in how many processes the job was done. */
  #about() {
    const { shard, version } = this.#options;
    const { fingerprint, dtype, target, config } = this.#model;
    return {
      kind: this.#inputs.kind,
      width: config.width,
      createdBy: `mome version ${version}`,
      metadata: {
        'mome.version': version,
        'mome.model': fingerprint,
        'mome.dimensions': String(config.width),
        'mome.dtype': dtype,
        'mome.target': target,
        'mome.kind': this.#inputs.kind,
        'mome.shard': `${shard.index}/${shard.count}`,
      },
    };
  }

  #report(
    state: ShardState,
    rows: number,
    errors: number,
    begin: number,
    at: ShardState['next'],
    end: number,
    isPart: boolean,
  ): void {
    const share = this.#inputs.progress(begin, at, end);
    const seconds = (performance.now() - this.#begun) / 1000;
    const done = share - this.#shareBefore;
    this.#options.onProgress?.({
      parts: state.parts,
      rows: state.rows + rows,
      errors: state.errors + errors,
      lastError: this.#lastError,
      share,
      perSecond: this.#rows / seconds,
      secondsLeft: done > 0 ? (seconds * (1 - share)) / done : Number.POSITIVE_INFINITY,
      isPart,
    });
    if (isPart) this.#lastError = undefined;
  }
}
