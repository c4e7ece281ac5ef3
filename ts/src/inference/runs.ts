/**
 * The native runs behind a model's calls: texts become ids, pictures are prepared, and a large call is cut into several runs.
 */
import { setMaxListeners } from 'node:events';
import { imageTokensOf, type VlmoConfig } from '../architecture/config.ts';
import { type Batch, type BatchItems, layoutBatch, withoutSurplus } from '../model/batch.ts';
import { argumentsOf, type HeadName, type OutputsOf, type OwnArguments } from '../model/functions.ts';
import { type Reads, readBatch } from '../model/reads.ts';
import { onAbort } from '../runtime/abort.ts';
import { report, shortText } from '../runtime/arguments.ts';
import { aboutItem, check, type ErrorItem, requireNotAborted } from '../runtime/errors.ts';
import type { Log } from '../runtime/logger.ts';
import { Pace } from '../runtime/pace.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { TakenItems } from './arguments.ts';
import type { ModelParts } from './load.ts';
import { cut, functionOf, itemsOf, type Naming, ownNames, rowsPerRun, type TokenizedItems } from './mixed.ts';
import { PictureSet, type PictureSource, shortName } from './pictures.ts';
import { type Profile, profileOf } from './profile.ts';
import { type FunctionName, type Functions, Programs } from './programs.ts';
import type { CallOptions, ModelState } from './results.ts';

/** A call under way: its name and its options. */
export interface Call extends CallOptions {
  readonly where: string;
}

/** Outputs of a mixed call, in the order of its items. */
export interface MixedOutputs {
  /** [images, width] and [texts, width]. */
  readonly images: Float32Array;
  readonly texts: Float32Array;
  /** [pairs, 2] of the matching head. */
  readonly logits: Float32Array;
}

/** The sequences of one run and its pictures. */
interface Prepared {
  readonly batch: BatchItems;
  readonly pictures: PictureSet;
}

/** A batch, and how many rows of each output were asked for: those that round a size up do not count. */
interface CountedBatch extends Pick<Batch, 'dims' | 'inputs'> {
  readonly counts: Readonly<Record<string, number>>;
}

/** Does the runs of one model. */
export class Runs {
  readonly #config: VlmoConfig;
  readonly #programs: Programs;
  readonly #tokenizer: Tokenizer | undefined;
  readonly #onDevice: boolean;
  /** Most token rows of one run, unless a single item has more. */
  readonly rowsPerRun: number;
  readonly #disposed = new AbortController();
  readonly #log: Log;
  /** Calls under way, and those of them whose run was handed to the engine. */
  #jobs = 0;
  #handed = 0;

  constructor({ engine, weights, config, tokenizer, log, abilities }: ModelParts) {
    this.#log = log;
    setMaxListeners(0, this.#disposed.signal);
    this.#config = config;
    this.#programs = new Programs(engine, weights, config, abilities);
    this.#tokenizer = tokenizer;
    this.#onDevice = engine.deviceName !== 'cpu';
    this.rowsPerRun = rowsPerRun(this.#onDevice, config.width);
  }

  get disposed(): boolean {
    return this.#disposed.signal.aborted;
  }

  /** Fires when the model is disposed. */
  get whenDisposed(): AbortSignal {
    return this.#disposed.signal;
  }

  get state(): ModelState {
    const running = Math.min(1, this.#handed); // the engine does one at a time
    return { running, pending: this.#jobs - running };
  }

  /** Counts a call, or a run of a queue, until it settles. */
  async job<T>(work: () => Promise<T>): Promise<T> {
    this.#jobs++;
    try {
      return await work();
    } finally {
      this.#jobs--;
    }
  }

  dispose(): void {
    this.#disposed.abort();
    this.#programs.dispose();
  }

  get hasVocabulary(): boolean {
    return this.#tokenizer !== undefined;
  }

  /** @throws MomeError `MOME_NOT_FOUND` for a model without a vocabulary */
  get tokenizer(): Tokenizer {
    check(
      this.#tokenizer !== undefined,
      'MOME_NOT_FOUND',
      'vlmo: expected vocab.txt or tokenizer.json beside the weights, found neither',
    );
    return this.#tokenizer;
  }

  /** @throws MomeError `MOME_UNSUPPORTED` for a model without the head */
  requireHead(head: HeadName): void {
    this.#programs.get(head);
  }

  /** The ids of a text. @param about what the caller calls it */
  encode({ where }: Call, text: string, about: ErrorItem): Int32Array {
    const tokenizer = this.tokenizer;
    try {
      return tokenizer.encode(text);
    } catch (error) {
      throw aboutItem(error, where, { ...about, item: shortText(text) });
    }
  }

  /** Decodes and resizes pictures. @param nameOf what the caller calls picture i */
  async pictures(
    call: Call,
    images: readonly PictureSource[],
    nameOf: (index: number) => ErrorItem,
  ): Promise<PictureSet> {
    if (images.length === 0) return PictureSet.empty;
    const named = (error: unknown, index: number) =>
      aboutItem(error, call.where, { ...nameOf(index), item: shortName(images[index]!) });
    try {
      const { imageSize } = this.#config;
      return await PictureSet.prepare(images, imageSize, call.signal, named, this.#disposed.signal);
    } catch (error) {
      this.requireWanted(call);
      throw error;
    }
  }

  /** Does one run of a function. @param own what the function takes beside the batch, or makes of it */
  async run<K extends FunctionName>(
    call: Call,
    name: K,
    items: BatchItems,
    pictures: PictureSet,
    own: OwnArguments<Functions[K]> | ((batch: Batch) => OwnArguments<Functions[K]>),
  ): Promise<OutputsOf<Functions[K]>> {
    this.requireWanted(call);
    const batch = this.#layout(items, pictures);
    // A statement is read from two pairs.
    const counts = { ...batch.counts, statements: batch.counts.pairs / 2 };
    return this.#execute(
      call,
      name,
      items,
      { ...batch, counts },
      pictures,
      typeof own === 'function' ? own(batch) : own,
    );
  }

  /** Does one run of sequences that are read for different things. @param reads which of them each head reads */
  async runTogether(
    call: Call,
    items: BatchItems,
    reads: Reads,
    pictures: PictureSet,
  ): Promise<Partial<OutputsOf<Functions['together']>>> {
    this.requireWanted(call);
    const { batch, own } = readBatch(this.#layout(items, pictures), reads, this.#onDevice);
    return this.#execute(call, 'together', items, batch, pictures, own);
  }

  async #execute<K extends FunctionName>(
    call: Call,
    name: K,
    items: BatchItems,
    batch: CountedBatch,
    pictures: PictureSet,
    own: OwnArguments<Functions[K]>,
  ): Promise<OutputsOf<Functions[K]>> {
    const { program, outputRows } = this.#programs.get(name);
    const args = argumentsOf<Functions[K]>(batch, { bytes: pictures.bytes }, own);
    const begun = performance.now();
    this.#handed++;
    try {
      const counted = { counts: batch.counts, dims: args.dims };
      return withoutSurplus(counted, outputRows, await program.run(args, call.signal));
    } finally {
      this.#handed--;
      this.#log('debug', 'run ended', () => ({
        call: call.where,
        function: name,
        texts: items.texts?.length ?? 0,
        images: items.images?.length ?? 0,
        pairs: items.pairs?.length ?? 0,
        milliseconds: Math.round(performance.now() - begun),
      }));
    }
  }

  /**
   * Does the runs of a call. The pictures of a run are prepared while the run before it goes on.
   *
   * @param taken what the call took over, or is still taking over: it counts as under way from its beginning
   * @param counted kinds of items that progress counts
   */
  together(
    call: Call,
    taken: TakenItems | Promise<TakenItems>,
    names: Naming = ownNames,
    counted: readonly (keyof TakenItems)[] = ['images', 'texts', 'pairs'],
  ): Promise<MixedOutputs> {
    return this.job(async () => this.#together(call, await taken, names, counted));
  }

  async #together(
    call: Call,
    taken: TakenItems,
    names: Naming,
    counted: readonly (keyof TakenItems)[],
  ): Promise<MixedOutputs> {
    const { width } = this.#config;
    const tokenized = await this.#tokenize(call, taken, names);
    const name = functionOf(tokenized);
    const results: MixedOutputs = {
      images: new Float32Array(taken.images.length * width),
      texts: new Float32Array(taken.texts.length * width),
      logits: new Float32Array(taken.pairs.length * 2),
    };
    const parts = await cut(tokenized, imageTokensOf(this.#config), this.rowsPerRun);
    const total = counted.reduce((sum, each) => sum + taken[each].length, 0);
    // Stops the preparation of the next part where a run fails: where there is one part alone, nothing is prepared during a run.
    const preparing = parts.length > 1 ? new AbortController() : undefined;
    const ended = onAbort(preparing && call.signal, () => preparing?.abort(call.signal?.reason));
    const prepare = (place: number) => {
      const part = parts[place];
      if (!part) return undefined;
      const named: Naming = (list, index, half) => names(list, part.first[list] + index, half);
      const prepared = this.#prepare(
        { ...call, ...(preparing && { signal: preparing.signal }) },
        itemsOf(tokenized, part),
        named,
      );
      prepared.catch(() => {}); // it is waited for below, unless the run before it fails
      return prepared;
    };
    try {
      let next = prepare(0);
      for (const [place, { first, end }] of parts.entries()) {
        const { batch, pictures } = (await next)!;
        next = prepare(place + 1);
        const outputs: Partial<OutputsOf<Functions['mixed']>> = await this.run(call, name, batch, pictures, {});
        results.images.set(outputs.image_embed ?? [], first.images * width);
        results.texts.set(outputs.text_embed ?? [], first.texts * width);
        results.logits.set(outputs.itm_logits ?? [], first.pairs * 2);
        const done = counted.reduce((sum, each) => sum + end[each], 0);
        if (call.onProgress) await report(call.onProgress, done, total);
        requireNotAborted(call.signal, call.where);
      }
    } finally {
      ended();
      preparing?.abort();
    }
    return results;
  }

  /** Times one run of all items, kernel by kernel, after a run that packs the weights. */
  async profile(call: Call, taken: TakenItems): Promise<Profile> {
    const tokenized = await this.#tokenize(call, taken, ownNames);
    const name = functionOf(tokenized);
    const { batch, pictures } = await this.#prepare(call, tokenized, ownNames);
    await this.run(call, name, batch, pictures, {});
    const { program, ops } = this.#programs.get(name);
    const started = performance.now();
    const args = argumentsOf<Functions[typeof name]>(this.#layout(batch, pictures), { bytes: pictures.bytes }, {});
    const run = await program.profile(args);
    const milliseconds = performance.now() - started;
    return profileOf(ops, run, milliseconds);
  }

  /** Prepares one run: decodes its pictures and names them as the caller does. */
  async #prepare(call: Call, { images, texts, pairs }: TokenizedItems, names: Naming): Promise<Prepared> {
    const shown = [...images, ...pairs.map(({ image }) => image)];
    const pictures = await this.pictures(call, shown, (index) =>
      index < images.length ? names('images', index, 'image') : names('pairs', index - images.length, 'image'),
    );
    const batch: BatchItems = {
      texts,
      images: pictures.items.slice(0, images.length),
      pairs: pairs.map(({ text }, i) => ({ text, picture: pictures.items[images.length + i]!.picture })),
    };
    return { batch, pictures };
  }

  async #tokenize(call: Call, { images, texts, pairs }: TakenItems, names: Naming): Promise<TokenizedItems> {
    const pace = new Pace();
    // A query stands in every pair of its candidates: it is split once.
    const last: { text: string; ids: Int32Array } = { text: '', ids: new Int32Array(0) };
    const encode = async (list: 'texts' | 'pairs', index: number, text: string): Promise<Int32Array> => {
      if (text !== last.text || last.ids.length === 0) {
        this.requireWanted(call);
        last.ids = this.encode(call, text, names(list, index, 'text'));
        last.text = text;
      }
      await pace.rest();
      return last.ids;
    };
    const textIds: Int32Array[] = [];
    for (const [index, text] of texts.entries()) textIds.push(await encode('texts', index, text));
    const pairIds: TokenizedItems['pairs'][number][] = [];
    for (const [index, { image, text }] of pairs.entries())
      pairIds.push({ image, text: await encode('pairs', index, text) });
    return { images, texts: textIds, pairs: pairIds };
  }

  /** On a device in buckets: what one run launches is recorded for others of the same sizes. */
  #layout(items: BatchItems, pictures: PictureSet): Batch {
    return layoutBatch(this.#config, items, pictures.count, this.#onDevice);
  }

  /** Passes on if the call is still wanted. @throws MomeError `MOME_ABORTED` */
  requireWanted({ where, signal }: Call): void {
    requireNotAborted(signal, where);
    check(!this.disposed, 'MOME_ABORTED', `${where}: expected a live model until the end, it was disposed`);
  }
}
