/**
 * A queue in front of a model for a service: what many clients ask for at a time goes into shared runs.
 */
import type { VlmoConfig } from '../architecture/config.ts';
import { type Kinds, kinds, oneOf, takeOptions, takeText, takeTexts } from '../runtime/arguments.ts';
import { check, type ErrorItem, MomeError } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';
import { takeImages, takePairs, takePicture } from './arguments.ts';
import { CallEnd, deadlinePassed, longestTimer } from './batch-end.ts';
import type { Asking, WantedItem } from './batch-entries.ts';
import { type Priority, priorities } from './batch-queue.ts';
import { BatcherRequest } from './batch-request.ts';
import { headsOf } from './batch-run.ts';
import { type RunReport, Scheduler } from './batch-scheduler.ts';
import type { CallStage } from './batch-stages.ts';
import { type Embeddings, embeddingsOf } from './embeddings.ts';
import { type Fusion, matchProbability } from './fused-score.ts';
import { answersOf, maskPositions, masksOf, secondProbability } from './logits.ts';
import type { ImageInput, PictureSource } from './pictures.ts';
import { cosines, type RerankQuery, rankedBy, takeRerank } from './rerank.ts';
import type { AnswerCandidate, MaskCandidates, Ranked, RerankOptions } from './results.ts';
import { rerankKinds } from './results.ts';
import type { Runs } from './runs.ts';

export type { CallStage, Priority, RunReport };

export interface BatcherOptions {
  /** Items of all calls that may be under way; default 2048. A call beyond is refused with `MOME_OVERLOADED`. */
  readonly maxItems?: number;
  /** Bytes of results that are kept for texts, pictures and pairs that come again; default 0, none. */
  readonly cacheBytes?: number;
  /** Runs handed to the engine before the one under way ends; default 0. More shrink each run, and fill gaps between tiny ones. */
  readonly runsAhead?: number;
  /** Most pixels of a picture file; default 2^27. */
  readonly maxPixels?: number;
  /** Called after each run. */
  readonly onRun?: (report: RunReport) => void;
}

/** Options of every call of a batcher. */
export interface BatchedOptions {
  /** Stops the call: what no other call wants as well is not computed. */
  readonly signal?: AbortSignal;
  /** Milliseconds after which the call rejects with `MOME_DEADLINE` and is no longer computed; default: no limit. */
  readonly timeout?: number;
  /** `interactive` (default) goes before `bulk`. */
  readonly priority?: Priority;
  /** Clients share runs evenly; default: all calls without are of one client. */
  readonly client?: string;
  /** Called with each stage of the call when it ends, for traces. */
  readonly onStage?: (stage: CallStage) => void;
}

export interface BatchedTopOptions extends BatchedOptions {
  /** How many; default 5. */
  readonly k?: number;
}

export type BatchedRerankOptions = BatchedOptions & Pick<RerankOptions, 'similarities' | 'rule'>;

/** What several calls of one request have in common. */
export type RequestOptions = Omit<BatchedOptions, 'signal'>;

const optionKinds: Kinds<BatcherOptions> = {
  maxItems: kinds.count,
  cacheBytes: kinds.size,
  runsAhead: kinds.size,
  maxPixels: kinds.count,
  onRun: kinds.callback,
};
const callKinds: Kinds<BatchedOptions> = {
  signal: kinds.signal,
  timeout: kinds.count,
  priority: oneOf(priorities),
  client: kinds.text,
  onStage: kinds.callback,
};
const requestKinds: Kinds<RequestOptions> = {
  timeout: callKinds.timeout,
  priority: callKinds.priority,
  client: callKinds.client,
  onStage: callKinds.onStage,
};
const topKinds: Kinds<BatchedTopOptions> = { ...callKinds, k: kinds.count };
const rerankOptionKinds: Kinds<BatchedRerankOptions> = {
  ...callKinds,
  similarities: rerankKinds.similarities,
  rule: rerankKinds.rule,
};

/** The state of a batcher. */
export interface BatcherState {
  /** Items of all calls under way, and how many there may be. */
  readonly items: number;
  readonly maxItems: number;
  /** Items that wait for a run, and items whose pictures nobody has begun to prepare. */
  readonly ready: number;
  readonly unprepared: number;
  /** Items done in a second, by recent runs. */
  readonly itemsPerSecond: number;
  readonly cacheHits: number;
  readonly cacheMisses: number;
}

/** What a batcher needs of its model. */
export interface BatchedModel extends Fusion {
  readonly config: VlmoConfig;
  readonly fingerprint: string;
}

/** Made by `vlmo.batcher()`. Safe under concurrent calls. */
export class Batcher {
  readonly #model: BatchedModel;
  readonly #runs: Runs;
  readonly #answers: readonly string[] | undefined;
  readonly #scheduler: Scheduler;
  readonly #maxItems: number;
  #closed = false;
  #idle: (() => void)[] = [];

  /** @internal */
  constructor(
    model: BatchedModel,
    runs: Runs,
    answers: readonly string[] | undefined,
    options: BatcherOptions | undefined,
  ) {
    const { maxItems = 2048, cacheBytes = 0, ...others } = takeOptions('batcher', options, optionKinds);
    const { runsAhead = 0, maxPixels, onRun } = others;
    this.#model = model;
    this.#runs = runs;
    this.#answers = answers;
    this.#maxItems = maxItems;
    this.#scheduler = new Scheduler(runs, model.config, { maxItems, cacheBytes, runsAhead, maxPixels, onRun });
  }

  /** Embeds texts as `Vlmo.embedTexts`. @throws MomeError as that, and `MOME_OVERLOADED`, `MOME_DEADLINE`, `MOME_TOO_LARGE` */
  async embedTexts(texts: readonly string[], options?: BatchedOptions): Promise<Embeddings> {
    const taken = takeTexts('embedTexts', texts);
    return this.#call('embedTexts', options, taken.length, async (asking) => {
      const wanted = await this.#tokenized(asking, taken, (index) => ({ kind: 'text', index }));
      return this.#joined(await this.#results(asking, wanted));
    });
  }

  /** Embeds pictures as `Vlmo.embedImages`. @throws MomeError as that, and `MOME_OVERLOADED`, `MOME_DEADLINE`, `MOME_TOO_LARGE` */
  async embedImages(images: readonly ImageInput[], options?: BatchedOptions): Promise<Embeddings> {
    const taken = takeImages('embedImages', images);
    return this.#call('embedImages', options, taken.length, async (asking) =>
      this.#joined(await this.#results(asking, this.#shown(taken))),
    );
  }

  /** Judges pairs as `Vlmo.match`. @throws MomeError as that, and `MOME_OVERLOADED`, `MOME_DEADLINE`, `MOME_TOO_LARGE` */
  async match(
    pairs: readonly { readonly image: ImageInput; readonly text: string }[],
    options?: BatchedOptions,
  ): Promise<Float32Array> {
    const taken = await takePairs('match', pairs);
    return this.#call('match', options, taken.length, async (asking) => {
      const logits = await this.#results(
        asking,
        await this.#paired(asking, taken, (index) => ({ kind: 'pair', index })),
      );
      return Float32Array.from(logits, (row) => matchProbability(row[1]! - row[0]!, this.#model.matchCalibration));
    });
  }

  /** Orders candidates as `Vlmo.rerank`. @throws MomeError as that, and `MOME_OVERLOADED`, `MOME_DEADLINE`, `MOME_TOO_LARGE` */
  async rerank(
    query: RerankQuery,
    candidates: readonly ImageInput[],
    options?: BatchedRerankOptions,
  ): Promise<Ranked[]> {
    const { similarities: given, rule, ...own } = takeOptions('rerank', options, rerankOptionKinds);
    const { items, names, similarities } = takeRerank(query, candidates, given);
    const count = items.images.length + items.texts.length + items.pairs.length;
    return this.#call('rerank', own, count, async (asking) => {
      const wanted = [
        ...this.#shown(items.images, (index) => names('images', index, 'image')),
        ...(await this.#tokenized(asking, items.texts, (index) => names('texts', index, 'text'))),
        ...(await this.#paired(asking, items.pairs, (index, half) => names('pairs', index, half))),
      ];
      const results = await this.#results(asking, wanted);
      const rows = (begin: number, end: number) => this.#joined(results.slice(begin, end)).embeddings;
      const images = items.images.length;
      const embedded = images + items.texts.length;
      const logits = Float32Array.from(results.slice(embedded).flatMap((row) => [...row]));
      const computed = () => {
        const [pictures, texts] = [rows(0, images), rows(images, embedded)];
        return items.texts.length === 1 ? cosines(texts, pictures) : cosines(pictures, texts);
      };
      return rankedBy(similarities ?? computed(), logits, this.#model, rule);
    });
  }

  /** Answers a question as `Vlmo.answer`. @throws MomeError as that, and `MOME_OVERLOADED`, `MOME_DEADLINE` */
  async answer(image: ImageInput, question: string, options?: BatchedTopOptions): Promise<AnswerCandidate[]> {
    const { k = 5, ...own } = takeOptions('answer', options, topKinds);
    const taken = takePicture('answer', image);
    const text = takeText('answer', question, 'question');
    return this.#call('answer', own, 1, async (asking) => {
      const ids = this.#encode(asking, text, { kind: 'question' });
      const about: ErrorItem = { kind: 'picture' };
      const [logits] = await this.#results(asking, [{ head: 'answer', ids, images: [taken], about }]);
      return answersOf(logits!, this.#answers, k);
    });
  }

  /** Judges a statement as `Vlmo.reason`. @throws MomeError as that, and `MOME_OVERLOADED`, `MOME_DEADLINE` */
  async reason(
    images: readonly [ImageInput, ImageInput],
    statement: string,
    options?: BatchedOptions,
  ): Promise<{ readonly probability: number }> {
    const taken = takeImages('reason', images, 'two pictures');
    check(taken.length === 2, 'MOME_INVALID_ARGUMENT', `reason: expected 2 pictures, got ${taken.length}`);
    const text = takeText('reason', statement, 'statement');
    return this.#call('reason', options, 1, async (asking) => {
      const ids = this.#encode(asking, text, { kind: 'statement' });
      const about: ErrorItem = { kind: 'picture' };
      const [logits] = await this.#results(asking, [{ head: 'reason', ids, images: taken, about }]);
      return { probability: secondProbability(logits!, 0) };
    });
  }

  /** Fills masks as `Vlmo.fillMask`. @throws MomeError as that, and `MOME_OVERLOADED`, `MOME_DEADLINE` */
  async fillMask(image: ImageInput | null, text: string, options?: BatchedTopOptions): Promise<MaskCandidates[]> {
    const { k = 5, ...own } = takeOptions('fillMask', options, topKinds);
    const images = image === null ? [] : [takePicture('fillMask', image)];
    const taken = takeText('fillMask', text, 'text');
    return this.#call('fillMask', own, 1, async (asking) => {
      const ids = this.#encode(asking, taken, { kind: 'text' });
      const positions = maskPositions(ids, this.#runs.tokenizer);
      if (positions.length === 0) return [];
      const about: ErrorItem = { kind: images.length === 0 ? 'text' : 'picture' };
      const [logits] = await this.#results(asking, [{ head: 'fillMask', ids, positions, images, about }]);
      return masksOf(logits!, positions, this.#runs.tokenizer, k);
    });
  }

  /** Word pieces of a text, with CLS and SEP. @throws MomeError as `Vlmo.embedTexts` */
  countTokens(text: string): number {
    return this.#encode({ where: 'countTokens' }, text, { kind: 'text' }).length;
  }

  /** The text of word pieces. @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_NOT_FOUND` */
  decode(ids: readonly number[]): string {
    const { vocabularySize } = this.#model.config;
    for (const id of ids)
      check(
        Number.isInteger(id) && id >= 0 && id < vocabularySize,
        'MOME_INVALID_ARGUMENT',
        `decode: expected word pieces from 0 to ${vocabularySize - 1}, got ${id}`,
      );
    return this.#runs.tokenizer.decode(Int32Array.from(ids));
  }

  /** Fingerprint of the model that this queue is in front of. */
  get fingerprint(): string {
    return this.#model.fingerprint;
  }

  /**
   * This queue for one request that makes several calls, such as a search: all have these options, and `timeout` runs from now for all of
   * them together. It is what `SearchIndex.search` takes as `through`.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT`
   * @example
   * const results = await index.search('a cat', { through: batcher.request({ client: 'a', timeout: 1000 }) });
   */
  request(options?: RequestOptions): BatcherRequest {
    return new BatcherRequest(this, takeOptions('request', options, requestKinds));
  }

  get state(): BatcherState {
    const { room, entries, waiting } = this.#scheduler;
    const { ready, unprepared } = waiting;
    return {
      items: room.taken,
      maxItems: this.#maxItems,
      ready,
      unprepared,
      itemsPerSecond: room.rate,
      cacheHits: entries.cacheHits,
      cacheMisses: entries.cacheMisses,
    };
  }

  /** Refuses new calls, and waits until those under way are done. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#scheduler.room.taken === 0) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Does a call of `count` items: lets them in, and gives them up when the signal fires or the time is over. */
  async #call<T>(
    where: string,
    options: BatchedOptions | undefined,
    count: number,
    work: (asking: Asking) => Promise<T>,
  ): Promise<T> {
    const { signal, timeout, priority = 'interactive', client = '', onStage } = takeOptions(where, options, callKinds);
    check(!this.#closed, 'MOME_DISPOSED', `${where}: expected an open queue, got one that was closed`);
    check(!this.#runs.disposed, 'MOME_DISPOSED', `${where}: expected a live model, got one that was disposed`);
    const { room } = this.#scheduler;
    room.enter(where, count);
    const end = new CallEnd();
    const deadline = timeout === undefined ? Number.POSITIVE_INFINITY : performance.now() + timeout;
    const aborted = () =>
      end.end(new MomeError('MOME_ABORTED', `${where}: the call was aborted`, { cause: signal?.reason }));
    const timer =
      timeout && timeout <= longestTimer && setTimeout(() => end.end(deadlinePassed(where, timeout)), timeout);
    if (signal?.aborted) aborted();
    else signal?.addEventListener('abort', aborted, { once: true });
    try {
      end.throwIfOver();
      return await work({ where, priority, client, end, deadline, onStage });
    } catch (error) {
      end.throwIfOver(); // whatever the preparation made of it
      throw error;
    } finally {
      clearTimeout(timer || undefined);
      signal?.removeEventListener('abort', aborted);
      room.leave(count);
      if (this.#closed && room.taken === 0) for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  /** The results of items. @throws MomeError `MOME_UNSUPPORTED` for a model without a head: no other call is to fail for that */
  #results(asking: Asking, wanted: readonly WantedItem[]): Promise<Float32Array[]> {
    for (const head of headsOf(wanted)) this.#runs.requireHead(head);
    return this.#scheduler.all(asking, wanted);
  }

  #encode({ where }: { readonly where: string }, text: string, about: ErrorItem): Int32Array {
    return this.#runs.encode({ where }, text, about);
  }

  async #tokenized(
    asking: Asking,
    texts: readonly string[],
    about: (index: number) => ErrorItem,
  ): Promise<WantedItem[]> {
    const wanted: WantedItem[] = [];
    const pace = new Pace();
    for (const [index, text] of texts.entries()) {
      // A single text waits for nobody: others may have used up their turn with large bodies.
      if (index > 0) await pace.rest();
      asking.end.throwIfOver();
      const ids = this.#encode(asking, text, about(index));
      wanted.push({ head: 'embed', ids, images: [], about: about(index) });
    }
    return wanted;
  }

  #shown(
    images: readonly PictureSource[],
    about: (index: number) => ErrorItem = (index) => ({ kind: 'picture', index }),
  ): WantedItem[] {
    return images.map((image, index) => ({
      head: 'embed',
      images: [image],
      about: { ...about(index), item: image.name },
    }));
  }

  async #paired(
    asking: Asking,
    pairs: readonly { readonly image: PictureSource; readonly text: string }[],
    about: (index: number, half: 'image' | 'text') => ErrorItem,
  ): Promise<WantedItem[]> {
    const wanted: WantedItem[] = [];
    const pace = new Pace();
    // A query stands in every pair of its candidates: it is split once.
    let last: { readonly text: string; readonly ids: Int32Array } | undefined;
    for (const [index, { image, text }] of pairs.entries()) {
      if (last?.text !== text) last = { text, ids: this.#encode(asking, text, about(index, 'text')) };
      const named = { ...about(index, 'image'), item: image.name };
      wanted.push({ head: 'match', ids: last.ids, images: [image], about: named });
      await pace.rest();
      asking.end.throwIfOver();
    }
    return wanted;
  }

  #joined(rows: readonly Float32Array[]): Embeddings {
    const { width } = this.#model.config;
    const embeddings = new Float32Array(rows.length * width);
    for (const [i, row] of rows.entries()) embeddings.set(row, i * width);
    return embeddingsOf(embeddings, width);
  }
}
