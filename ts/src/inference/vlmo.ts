/**
 * The public model: load once, then embed, match, re-rank, answer, reason and fill masks, all off the event loop.
 */

import { imageTokensOf, type VlmoConfig } from '../architecture/config.ts';
import { type Batch, type BatchItems, layoutBatch, withoutSurplus } from '../model/batch.ts';
import { argumentsOf, type OutputsOf, type OwnArguments } from '../model/functions.ts';
import type { DType } from '../runtime/addon.ts';
import type { Engine, Weights } from '../runtime/engine.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { requireCount, requireList, requirePairs } from './arguments.ts';
import { type LoadOptions, loadModel, type ModelParts } from './load.ts';
import { logSumExp, secondProbability, topOf } from './logits.ts';
import {
  functionOf,
  type MixedItems,
  type MixedResults,
  partOf,
  prepareMixed,
  requireMixed,
  rowsOf,
  type TokenizedItems,
} from './mixed.ts';
import { type ImageInput, PictureSet } from './pictures.ts';
import { type Profile, profileOf } from './profile.ts';
import { type FunctionName, type Functions, Programs } from './programs.ts';
import { pairsOf, type RerankQuery, rankedBy } from './rerank.ts';
import type { AnswerCandidate, CallOptions, Embeddings, MaskCandidates, Ranked, TopOptions } from './results.ts';
import { rowsPerRun } from './run-rows.ts';

export type * from './results.ts';
export type { ImageInput, LoadOptions, MixedItems, MixedResults, Profile, RerankQuery };

/** A loaded model. Safe under concurrent calls; `dispose` frees it, and is called by `await using`. */
export class Vlmo {
  readonly config: VlmoConfig;
  /** Where it runs: `cpu` or `cuda:<index>`. */
  readonly device: 'cpu' | `cuda:${number}`;
  /** What weight matrices are kept as. */
  readonly dtype: DType;
  /** Kernel set in use: `ref`, `avx2`, `avx512`, `avx512_vnni` or `cuda`. */
  readonly target: string;
  /** Hash of weights, configuration, vocabulary and preprocessing: an index made with one model refuses another. */
  readonly fingerprint: string;
  /** What the contrastive loss multiplies cosines with: `exp(logit_scale)`. */
  readonly similarityScale: number;
  /** How much the matching head counts beside the similarity when both order candidates. */
  readonly fusionWeight: number;
  readonly #engine: Engine;
  readonly #weights: Weights;
  readonly #tokenizer: Tokenizer | undefined;
  readonly #answers: readonly string[] | undefined;
  readonly #programs: Programs;
  readonly #rowsPerRun: number;
  #disposed = false;

  private constructor(parts: ModelParts) {
    this.config = parts.config;
    this.dtype = parts.dtype;
    this.device = parts.engine.deviceName;
    this.target = parts.engine.target;
    this.fingerprint = parts.fingerprint;
    this.similarityScale = parts.similarityScale;
    this.fusionWeight = parts.fusionWeight;
    this.#engine = parts.engine;
    this.#weights = parts.weights;
    this.#programs = new Programs(parts.engine, parts.weights, parts.config);
    this.#tokenizer = parts.tokenizer;
    this.#answers = parts.answers;
    this.#rowsPerRun = rowsPerRun(this.device === 'cpu', parts.config.width);
  }

  /**
   * Loads a model folder (`config.json` + `model.safetensors` + vocabulary), a checkpoint file, or, without a path, the model that
   * ships with the library.
   *
   * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_INVALID_CONFIG`, `MOME_INVALID_ARGUMENT`, `MOME_DEVICE_UNAVAILABLE`,
   *   `MOME_OUT_OF_MEMORY`, `MOME_ABORTED`
   * @example
   * const vlmo = await Vlmo.load();
   * const { embeddings } = await vlmo.embedTexts(['a happy cat']);
   */
  static async load(model?: string, options: LoadOptions = {}): Promise<Vlmo> {
    return new Vlmo(await loadModel(model, options));
  }

  /**
   * Embeds pictures with the dual encoder.
   *
   * @returns [count, width] rows of length 1
   * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_NOT_FOUND`, `MOME_INVALID_IMAGE`, `MOME_TOO_LARGE`, `MOME_NON_FINITE`,
   *   `MOME_UNSUPPORTED` when the model lacks the head, `MOME_ABORTED`, `MOME_DISPOSED`
   */
  async embedImages(images: readonly ImageInput[], options: CallOptions = {}): Promise<Embeddings> {
    requireList(images, 'embedImages', 'pictures');
    const embeddings = new Float32Array(images.length * this.config.width);
    await this.#batches(images, imageTokensOf(this.config), options, async (part, first) => {
      const pictures = await PictureSet.prepare(part, this.config.imageSize, options.signal);
      const outputs = await this.#run('embed', { images: pictures.items }, pictures, {}, options.signal);
      embeddings.set(outputs.image_embed!, first * this.config.width);
    });
    return { embeddings, count: images.length, width: this.config.width };
  }

  /**
   * Embeds texts with the dual encoder. Longer texts are cut to `maxTextLength` tokens, as the original does; an empty text is CLS
   * and SEP alone.
   *
   * @returns [count, width] rows of length 1
   * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_NOT_FOUND` when the model has no vocabulary, `MOME_UNSUPPORTED` when it lacks the
   *   head, `MOME_ABORTED`, `MOME_DISPOSED`
   */
  async embedTexts(texts: readonly string[], options: CallOptions = {}): Promise<Embeddings> {
    requireList(texts, 'embedTexts', 'texts');
    const tokenized = await this.#encodeAll(texts, options.signal);
    const embeddings = new Float32Array(texts.length * this.config.width);
    const longest = tokenized.reduce((most, ids) => Math.max(most, ids.length), 1);
    await this.#batches(tokenized, longest, options, async (part, first) => {
      const outputs = await this.#run('embed', { texts: part }, PictureSet.empty, {}, options.signal);
      embeddings.set(outputs.text_embed!, first * this.config.width);
    });
    return { embeddings, count: texts.length, width: this.config.width };
  }

  /**
   * Reads each picture together with its text and says how likely they belong together.
   *
   * @returns [pairs] probabilities of image-text matching
   * @throws MomeError as `embedImages` and `embedTexts`
   */
  async match(
    pairs: readonly { readonly image: ImageInput; readonly text: string }[],
    options: CallOptions = {},
  ): Promise<Float32Array> {
    requirePairs(pairs, 'match');
    const probabilities = new Float32Array(pairs.length);
    const { pairs: tokenized } = await this.#tokenize({ pairs }, options.signal);
    const longest = tokenized.reduce((most, { text }) => Math.max(most, text.length), 1);
    await this.#batches(tokenized, longest + imageTokensOf(this.config), options, async (part, first) => {
      const pictures = await PictureSet.prepare(
        part.map(({ image }) => image),
        this.config.imageSize,
        options.signal,
      );
      const items = part.map(({ text }, i) => ({ text, picture: pictures.items[i]!.picture }));
      const { itm_logits } = await this.#run('match', { pairs: items }, pictures, {}, options.signal);
      for (let i = 0; i < part.length; i++) probabilities[first + i] = secondProbability(itm_logits!, i);
    });
    return probabilities;
  }

  /**
   * Embeds pictures and texts and judges pairs together: what a service has waiting at a moment. Every result is, to the last bit, that
   * of `embedImages`, `embedTexts` and `match`. A large call is cut into runs that hold an even share of each kind. Only the heads of
   * the kinds that are there are asked for.
   *
   * @throws MomeError as `embedImages`, `embedTexts` and `match`
   */
  async mixed(items: MixedItems, options: CallOptions = {}): Promise<MixedResults> {
    const { width, imageSize } = this.config;
    requireMixed(items);
    const { images = [], texts = [], pairs = [] } = items;
    const tokenized = await this.#tokenize(items, options.signal);
    const run = functionOf(tokenized);
    const results: MixedResults = {
      images: { embeddings: new Float32Array(images.length * width), count: images.length, width },
      texts: { embeddings: new Float32Array(texts.length * width), count: texts.length, width },
      pairs: new Float32Array(pairs.length),
    };
    const total = images.length + texts.length + pairs.length;
    const wanted = Math.ceil(rowsOf(tokenized, imageTokensOf(this.config)) / this.#rowsPerRun);
    const parts = Math.max(1, Math.min(wanted, Math.max(images.length, texts.length, pairs.length)));
    for (let part = 0; part < parts; part++) {
      requireNotAborted(options.signal, 'vlmo');
      const { items: own, first, end } = partOf(tokenized, part, parts);
      const { batch, pictures } = await prepareMixed(own, imageSize, options.signal);
      const outputs: Partial<OutputsOf<Functions['mixed']>> = await this.#run(run, batch, pictures, {}, options.signal);
      results.images.embeddings.set(outputs.image_embed ?? [], first.images * width);
      results.texts.embeddings.set(outputs.text_embed ?? [], first.texts * width);
      for (let i = 0; i < own.pairs.length; i++)
        results.pairs[first.pairs + i] = secondProbability(outputs.itm_logits!, i);
      options.onProgress?.(end.images + end.texts + end.pairs, total);
    }
    return results;
  }

  /**
   * Times one mixed pass, kernel by kernel. Pictures are prepared and weights packed beforehand.
   *
   * @throws MomeError as `mixed`
   */
  async profile(items: MixedItems): Promise<Profile> {
    requireMixed(items);
    const tokenized = await this.#tokenize(items);
    const name = functionOf(tokenized);
    const { batch, pictures } = await prepareMixed(tokenized, this.config.imageSize);
    await this.#run(name, batch, pictures, {});
    const { program, ops } = this.#programs.get(name);
    const started = performance.now();
    const args = argumentsOf<Functions[typeof name]>(this.#layout(batch, pictures), { bytes: pictures.bytes }, {});
    const run = await program.profile(args);
    const milliseconds = performance.now() - started;
    return profileOf(ops, run, milliseconds);
  }

  async #tokenize({ images = [], texts = [], pairs = [] }: MixedItems, signal?: AbortSignal): Promise<TokenizedItems> {
    const ids = await this.#encodeAll([...texts, ...pairs.map(({ text }) => text)], signal);
    return {
      images,
      texts: ids.slice(0, texts.length),
      pairs: pairs.map(({ image }, i) => ({ image, text: ids[texts.length + i]! })),
    };
  }

  /**
   * Orders candidates by fusion score: pictures for a text query, texts for a picture query. To a text query a string is the path of a
   * picture, as everywhere.
   *
   * @returns candidates best first; equal scores keep the order of the call
   * @throws MomeError as `match`: `MOME_INVALID_ARGUMENT` when a picture query meets a candidate that is no text, `MOME_NOT_FOUND` when a
   *   text query meets a path where there is no file
   */
  async rerank(query: RerankQuery, candidates: readonly ImageInput[], options: CallOptions = {}): Promise<Ranked[]> {
    return rankedBy(await this.match(pairsOf(query, candidates), options));
  }

  /**
   * Answers a question about a picture from the model's answer list, `answers.json` beside the weights.
   *
   * @returns answers with their probabilities (independent of each other, as in VQA v2), best first
   * @throws MomeError as `embedImages` and `embedTexts`: `MOME_UNSUPPORTED` when the model has no answer head
   */
  async answer(image: ImageInput, question: string, options: TopOptions = {}): Promise<AnswerCandidate[]> {
    const { k = 5 } = options;
    requireCount(k, 'answer');
    const pictures = await PictureSet.prepare([image], this.config.imageSize, options.signal);
    const items = [{ text: this.#encode(question), picture: 0 }];
    const { vqa_logits } = await this.#run('answer', { pairs: items }, pictures, {}, options.signal);
    return topOf(vqa_logits!, k).map((index) => ({
      answer: this.#answers?.[index] ?? `answer ${index}`,
      score: 1 / (1 + Math.exp(-vqa_logits![index]!)),
    }));
  }

  /**
   * Judges a statement about two pictures.
   *
   * @returns the probability that it is true
   * @throws MomeError as `embedImages` and `embedTexts`: `MOME_UNSUPPORTED` when the model has no head for statements
   */
  async reason(
    images: readonly [ImageInput, ImageInput],
    statement: string,
    options: CallOptions = {},
  ): Promise<{ readonly probability: number }> {
    requireList(images, 'reason', 'two pictures');
    check(images.length === 2, 'MOME_INVALID_ARGUMENT', `reason: expected 2 pictures, got ${images.length}`);
    const pictures = await PictureSet.prepare(images, this.config.imageSize, options.signal);
    const text = this.#encode(statement);
    const pairs = pictures.items.map(({ picture }, i) => ({
      text,
      picture,
      type: i === 0 ? (1 as const) : (2 as const),
    }));
    const { nlvr2_logits } = await this.#run(
      'reason',
      { pairs },
      pictures,
      { dims: { statements: 1 } },
      options.signal,
    );
    return { probability: secondProbability(nlvr2_logits!, 0) };
  }

  /**
   * Proposes word pieces for every `[MASK]` of a text, with or without a picture to look at.
   *
   * @returns for each mask its `k` likeliest pieces; the probabilities of all pieces sum to 1
   * @throws MomeError as `embedImages` and `embedTexts`: `MOME_UNSUPPORTED` when the model has no masked-language head
   */
  async fillMask(image: ImageInput | null, text: string, options: TopOptions = {}): Promise<MaskCandidates[]> {
    const { k = 5 } = options;
    requireCount(k, 'fillMask');
    const tokenizer = this.#requireTokenizer();
    const ids = this.#encode(text);
    const positions = [...ids.keys()].filter((position) => ids[position] === tokenizer.maskId);
    if (positions.length === 0) return [];
    const pictures =
      image === null ? PictureSet.empty : await PictureSet.prepare([image], this.config.imageSize, options.signal);
    const items: BatchItems = image === null ? { texts: [ids] } : { pairs: [{ text: ids, picture: 0 }] };
    const masked = (batch: Batch) => {
      const first = (image === null ? batch.textCls : batch.pairTextCls)[0]!;
      const mlm_rows = Int32Array.from(positions, (position) => first + position);
      return { dims: { tokens: positions.length }, inputs: { mlm_rows } };
    };
    const { mlm_logits } = await this.#run('fillMask', items, pictures, masked, options.signal);
    const V = this.config.vocabularySize;
    const masks: MaskCandidates[] = [];
    const pace = new Pace();
    for (const [i, position] of positions.entries()) {
      const logits = mlm_logits!.subarray(i * V, (i + 1) * V);
      const normaliser = logSumExp(logits);
      const candidates = topOf(logits, k).map((id) => ({
        token: tokenizer.decode(Int32Array.of(id)),
        score: Math.exp(logits[id]! - normaliser),
      }));
      masks.push({ position, candidates });
      await pace.rest();
    }
    return masks;
  }

  /** Bytes this model holds in native memory. */
  memory(): { readonly arenaBytes: number; readonly weightBytes: number } {
    this.#requireAlive();
    return this.#engine.memory();
  }

  /** Stops running calls, which reject with `MOME_ABORTED`, and frees native memory. Calling it again does nothing. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#programs.dispose();
    this.#weights.dispose();
    this.#engine.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #run<K extends FunctionName>(
    name: K,
    items: BatchItems,
    pictures: PictureSet,
    own: OwnArguments<Functions[K]> | ((batch: Batch) => OwnArguments<Functions[K]>),
    signal?: AbortSignal,
  ): Promise<OutputsOf<Functions[K]>> {
    this.#requireAlive();
    const { program, outputRows } = this.#programs.get(name);
    const batch = this.#layout(items, pictures);
    const args = argumentsOf<Functions[K]>(
      batch,
      { bytes: pictures.bytes },
      typeof own === 'function' ? own(batch) : own,
    );
    return withoutSurplus(batch, outputRows, await program.run(args, signal));
  }

  /** On a device in buckets: what one run launches is recorded for others of the same sizes. */
  #layout(items: BatchItems, pictures: PictureSet): Batch {
    return layoutBatch(this.config, items, pictures.count, this.device !== 'cpu');
  }

  /** Calls `run` on consecutive parts of `items` that hold at most `#rowsPerRun` rows each. */
  async #batches<T>(
    items: readonly T[],
    rowsPerItem: number,
    { signal, onProgress }: CallOptions,
    run: (part: readonly T[], first: number) => Promise<void>,
  ): Promise<void> {
    this.#requireAlive();
    const size = Math.max(1, Math.floor(this.#rowsPerRun / rowsPerItem));
    for (let first = 0; first < items.length; first += size) {
      requireNotAborted(signal, 'vlmo');
      const part = items.slice(first, first + size);
      await run(part, first);
      onProgress?.(first + part.length, items.length);
    }
  }

  async #encodeAll(texts: readonly string[], signal?: AbortSignal): Promise<Int32Array[]> {
    this.#requireAlive();
    const pace = new Pace();
    const encoded: Int32Array[] = [];
    for (const text of texts) {
      requireNotAborted(signal, 'vlmo');
      encoded.push(this.#encode(text));
      await pace.rest();
    }
    return encoded;
  }

  #encode(text: string): Int32Array {
    check(typeof text === 'string', 'MOME_INVALID_ARGUMENT', `vlmo: expected a text, got ${typeof text}`);
    return this.#requireTokenizer().encode(text);
  }

  #requireTokenizer(): Tokenizer {
    check(
      this.#tokenizer !== undefined,
      'MOME_NOT_FOUND',
      'vlmo: expected vocab.txt or tokenizer.json beside the weights, found neither',
    );
    return this.#tokenizer;
  }

  #requireAlive(): void {
    check(!this.#disposed, 'MOME_DISPOSED', 'vlmo: expected a live model, got one that was disposed');
  }
}
