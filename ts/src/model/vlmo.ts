/**
 * The public model: load once, then embed, match, re-rank, answer, reason and fill masks, all off the event loop.
 */
import type { DType, RunArguments } from '../runtime/addon.ts';
import type { Engine, Program, Weights } from '../runtime/engine.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { type Batch, type BatchItems, type ImageItem, layoutBatch, withoutSurplus } from './batch.ts';
import { imageTokensOf, type VlmoConfig } from './config.ts';
import { answer, embed, fillMask, lowerFunction, type ModelFunction, match, mixed, reason } from './functions.ts';
import { type LoadOptions, loadModel, type ModelParts } from './load.ts';
import { type MixedItems, type MixedResults, partOf, prepareMixed, rowsOf, type TokenizedItems } from './mixed.ts';
import { type ImageInput, PictureSet } from './pictures.ts';
import { type Profile, profileOf } from './profile.ts';

/** Options of every call. */
export interface CallOptions {
  /** Stops the call; it rejects with `MOME_ABORTED`. */
  readonly signal?: AbortSignal;
  /** Called after each batch with the number of items done. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Rows of one call: row i belongs to input i. */
export interface Embeddings {
  /** [count, width] numbers, every row of length 1. */
  readonly embeddings: Float32Array;
  readonly count: number;
  readonly width: number;
}

export interface Ranked {
  /** Place of the candidate in the call. */
  readonly index: number;
  /** Probability that text and picture belong together. */
  readonly score: number;
}

export interface AnswerCandidate {
  readonly answer: string;
  readonly score: number;
}

export interface MaskCandidates {
  /** Token position in the text, CLS = 0. */
  readonly position: number;
  readonly candidates: readonly { readonly token: string; readonly score: number }[];
}

/** A function of the model, ready to run, the op of each of its instructions, and what counts the rows of its outputs. */
interface Compiled {
  readonly program: Program;
  readonly ops: readonly string[];
  readonly outputRows: Readonly<Record<string, string>>;
}

type FunctionName = 'embed' | 'match' | 'mixed' | 'answer' | 'reason' | 'fillMask';
const functions: Readonly<Record<FunctionName, ModelFunction>> = { embed, match, mixed, answer, reason, fillMask };

/**
 * Most token rows one native run takes on a processor: enough to be compute-bound, and so few that latency stays bounded and that the
 * last-level cache keeps the q, k and v of a block, `cachedBytes` at most, until attention has read them.
 */
const processorRows = 1600;
const cachedBytes = 8 * 2 ** 20;
/** A CUDA device takes 64 pictures of 197 tokens, which fill the multiprocessors of a Hopper GPU evenly. */
const deviceRows = 64 * 197;

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
  readonly #programs = new Map<FunctionName, Compiled>();
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
    this.#tokenizer = parts.tokenizer;
    this.#answers = parts.answers;
  }

  /**
   * Loads a model folder (`config.json` + `model.safetensors` + vocabulary), a checkpoint file, or, without a path, the model that
   * ships with the library.
   *
   * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_INVALID_CONFIG`, `MOME_DEVICE_UNAVAILABLE`, `MOME_OUT_OF_MEMORY`
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
   * @throws MomeError `MOME_INVALID_IMAGE`, `MOME_NON_FINITE`, `MOME_ABORTED`, `MOME_DISPOSED`
   */
  async embedImages(images: readonly ImageInput[], options: CallOptions = {}): Promise<Embeddings> {
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
   * @throws MomeError `MOME_NOT_FOUND` when the model has no vocabulary, `MOME_ABORTED`, `MOME_DISPOSED`
   */
  async embedTexts(texts: readonly string[], options: CallOptions = {}): Promise<Embeddings> {
    const tokenized = await this.#encodeAll(texts);
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
   */
  async match(
    pairs: readonly { readonly image: ImageInput; readonly text: string }[],
    options: CallOptions = {},
  ): Promise<Float32Array> {
    const probabilities = new Float32Array(pairs.length);
    const ids = await this.#encodeAll(pairs.map(({ text }) => text));
    const tokenized = pairs.map(({ image }, i) => ({ image, ids: ids[i]! }));
    const longest = tokenized.reduce((most, { ids }) => Math.max(most, ids.length), 1);
    await this.#batches(tokenized, longest + imageTokensOf(this.config), options, async (part, first) => {
      const pictures = await PictureSet.prepare(
        part.map(({ image }) => image),
        this.config.imageSize,
        options.signal,
      );
      const items = part.map(({ ids }, i) => ({ text: ids, picture: pictures.items[i]!.picture }));
      const { itm_logits } = await this.#run('match', { pairs: items }, pictures, {}, options.signal);
      for (let i = 0; i < part.length; i++) probabilities[first + i] = secondProbability(itm_logits!, i);
    });
    return probabilities;
  }

  /**
   * Embeds pictures and texts and judges pairs together: what a service has waiting at a moment. Every result is, to the last bit, that
   * of `embedImages`, `embedTexts` and `match`. A large call is cut into runs that hold an even share of each kind.
   *
   * @throws MomeError as `embedImages`, `embedTexts` and `match`
   */
  async mixed(items: MixedItems, options: CallOptions = {}): Promise<MixedResults> {
    const { width, imageSize } = this.config;
    const { images = [], texts = [], pairs = [] } = items;
    const tokenized = await this.#tokenize(items);
    const results: MixedResults = {
      images: { embeddings: new Float32Array(images.length * width), count: images.length, width },
      texts: { embeddings: new Float32Array(texts.length * width), count: texts.length, width },
      pairs: new Float32Array(pairs.length),
    };
    const total = images.length + texts.length + pairs.length;
    const wanted = Math.ceil(rowsOf(tokenized, imageTokensOf(this.config)) / this.#rowsPerRun);
    const parts = Math.max(1, Math.min(wanted, Math.max(images.length, texts.length, pairs.length)));
    for (let part = 0; part < parts; part++) {
      this.#requireNotAborted(options.signal);
      const { items: own, first, end } = partOf(tokenized, part, parts);
      const { batch, pictures } = await prepareMixed(own, imageSize, options.signal);
      const outputs = await this.#run('mixed', batch, pictures, {}, options.signal);
      results.images.embeddings.set(outputs.image_embed!, first.images * width);
      results.texts.embeddings.set(outputs.text_embed!, first.texts * width);
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
    const { batch, pictures } = await prepareMixed(await this.#tokenize(items), this.config.imageSize);
    await this.#run('mixed', batch, pictures, {});
    const { program, ops } = this.#compiled('mixed');
    const args = this.#arguments(this.#layout(batch, pictures), pictures);
    const started = performance.now();
    const { nanoseconds } = await program.profile(args);
    const milliseconds = performance.now() - started;
    return profileOf(ops, nanoseconds, milliseconds);
  }

  async #tokenize({ images = [], texts = [], pairs = [] }: MixedItems): Promise<TokenizedItems> {
    const ids = await this.#encodeAll([...texts, ...pairs.map(({ text }) => text)]);
    return {
      images,
      texts: ids.slice(0, texts.length),
      pairs: pairs.map(({ image }, i) => ({ image, text: ids[texts.length + i]! })),
    };
  }

  /**
   * Orders candidates by fusion score: pictures for a text query, texts for a picture query.
   *
   * @returns candidates best first; equal scores keep the order of the call
   * @throws MomeError `MOME_INVALID_ARGUMENT` when a text query meets a text candidate that names no picture
   */
  async rerank(
    query: { readonly text: string } | { readonly image: ImageInput },
    candidates: readonly (ImageInput | string)[],
    options: CallOptions = {},
  ): Promise<Ranked[]> {
    const pairs = candidates.map((candidate) => {
      if ('text' in query) return { image: candidate as ImageInput, text: query.text };
      check(
        typeof candidate === 'string',
        'MOME_INVALID_ARGUMENT',
        'rerank: expected texts as candidates of a picture query',
      );
      return { image: query.image, text: candidate };
    });
    const scores = await this.match(pairs, options);
    return Array.from(scores, (score, index) => ({ index, score })).sort(
      (a, b) => b.score - a.score || a.index - b.index,
    );
  }

  /**
   * Answers a question about a picture from the model's answer list.
   *
   * @param options.k number of answers, default 5
   * @returns answers with their probabilities (independent of each other, as in VQA v2), best first
   */
  async answer(
    image: ImageInput,
    question: string,
    options: CallOptions & { readonly k?: number } = {},
  ): Promise<AnswerCandidate[]> {
    const pictures = await PictureSet.prepare([image], this.config.imageSize, options.signal);
    const items = [{ text: this.#encode(question), picture: 0 }];
    const { vqa_logits } = await this.#run('answer', { pairs: items }, pictures, {}, options.signal);
    return topOf(vqa_logits!, options.k ?? 5).map((index) => ({
      answer: this.#answers?.[index] ?? `answer ${index}`,
      score: 1 / (1 + Math.exp(-vqa_logits![index]!)),
    }));
  }

  /**
   * Judges a statement about two pictures.
   *
   * @returns the probability that it is true
   */
  async reason(
    images: readonly [ImageInput, ImageInput],
    statement: string,
    options: CallOptions = {},
  ): Promise<{ readonly probability: number }> {
    const pictures = await PictureSet.prepare(images, this.config.imageSize, options.signal);
    const text = this.#encode(statement);
    const pairs = pictures.items.map(({ picture }, i) => ({
      text,
      picture,
      type: i === 0 ? (1 as const) : (2 as const),
    }));
    const { nlvr2_logits } = await this.#run('reason', { pairs }, pictures, { statements: 1 }, options.signal);
    return { probability: secondProbability(nlvr2_logits!, 0) };
  }

  /**
   * Proposes word pieces for every `[MASK]` of a text, with or without a picture to look at.
   *
   * @param options.k candidates per mask, default 5
   */
  async fillMask(
    image: ImageInput | null,
    text: string,
    options: CallOptions & { readonly k?: number } = {},
  ): Promise<MaskCandidates[]> {
    const tokenizer = this.#requireTokenizer();
    const ids = tokenizer.encode(text);
    const positions = [...ids.keys()].filter((position) => ids[position] === tokenizer.maskId);
    if (positions.length === 0) return [];
    const pictures =
      image === null ? PictureSet.empty : await PictureSet.prepare([image], this.config.imageSize, options.signal);
    const items: BatchItems = image === null ? { texts: [ids] } : { pairs: [{ text: ids, picture: 0 }] };
    const dims = { tokens: positions.length };
    const { mlm_logits } = await this.#run('fillMask', items, pictures, dims, options.signal, (batch) => {
      const first = (image === null ? batch.textCls : batch.pairTextCls)[0]!;
      return { mlm_rows: Int32Array.from(positions, (position) => first + position) };
    });
    const V = this.config.vocabularySize;
    return positions.map((position, i) => {
      const logits = mlm_logits!.subarray(i * V, (i + 1) * V);
      const normaliser = logSumExp(logits);
      return {
        position,
        candidates: topOf(logits, options.k ?? 5).map((id) => ({
          token: tokenizer.decode(Int32Array.of(id)),
          score: Math.exp(logits[id]! - normaliser),
        })),
      };
    });
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
    for (const { program } of this.#programs.values()) program.dispose();
    this.#weights.dispose();
    this.#engine.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #run(
    name: FunctionName,
    items: BatchItems,
    pictures: PictureSet,
    dims: Readonly<Record<string, number>>,
    signal?: AbortSignal,
    extra: (batch: Batch) => Readonly<Record<string, Int32Array>> = () => ({}),
  ): Promise<Readonly<Record<string, Float32Array>>> {
    this.#requireAlive();
    const { program, outputRows } = this.#compiled(name);
    const batch = this.#layout(items, pictures);
    return withoutSurplus(
      batch,
      outputRows,
      await program.run(this.#arguments(batch, pictures, dims, extra(batch)), signal),
    );
  }

  /** On a device in buckets: what one run launches is recorded for others of the same sizes. */
  #layout(items: BatchItems, pictures: PictureSet): Batch {
    return layoutBatch(this.config, items, pictures.count, this.device !== 'cpu');
  }

  #arguments(
    batch: Batch,
    pictures: PictureSet,
    dims: Readonly<Record<string, number>> = {},
    extra: Readonly<Record<string, Int32Array>> = {},
  ): RunArguments {
    return { dims: { ...batch.dims, ...dims }, inputs: { ...batch.inputs, ...extra, bytes: pictures.bytes } };
  }

  #compiled(name: FunctionName): Compiled {
    const known = this.#programs.get(name);
    if (known) return known;
    const compiled = this.#compile(name);
    this.#programs.set(name, compiled);
    // From here on matrices are read packed. Runs queue behind this; a failure of memory shows in the first of them.
    compiled.program.releasePlain().catch(() => {});
    return compiled;
  }

  #compile(name: FunctionName): Compiled {
    try {
      const { text, instructions, outputRows } = lowerFunction(functions[name], this.config);
      const program = this.#engine.createProgram(this.#weights, text);
      return { program, ops: instructions.map(({ op }) => op), outputRows };
    } catch (error) {
      if (!(error instanceof MomeError) || error.code !== 'MOME_NOT_FOUND') throw error;
      throw new MomeError('MOME_UNSUPPORTED', `vlmo: expected a model with a head for "${name}", this one has none`, {
        cause: error,
      });
    }
  }

  /** Most token rows one native run takes, unless a single item has more; about so many in a mixed run. */
  get #rowsPerRun(): number {
    if (this.device !== 'cpu') return deviceRows;
    return Math.min(processorRows, Math.floor(cachedBytes / (3 * 4 * this.config.width)));
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
      this.#requireNotAborted(signal);
      const part = items.slice(first, first + size);
      await run(part, first);
      onProgress?.(first + part.length, items.length);
    }
  }

  async #encodeAll(texts: readonly string[]): Promise<Int32Array[]> {
    this.#requireAlive();
    const pace = new Pace();
    const encoded: Int32Array[] = [];
    for (const text of texts) {
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

  #requireNotAborted(signal: AbortSignal | undefined): void {
    if (signal?.aborted) throw new MomeError('MOME_ABORTED', 'vlmo: the call was aborted', { cause: signal.reason });
  }

  #requireAlive(): void {
    check(!this.#disposed, 'MOME_DISPOSED', 'vlmo: expected a live model, got one that was disposed');
  }
}

export type { ImageInput, ImageItem, LoadOptions, MixedItems, MixedResults, Profile };

/** Probability of the second of two logits. */
function secondProbability(logits: Float32Array, row: number): number {
  return 1 / (1 + Math.exp(logits[2 * row]! - logits[2 * row + 1]!));
}

function topOf(values: Float32Array, k: number): number[] {
  return Array.from(values.keys())
    .sort((a, b) => values[b]! - values[a]! || a - b)
    .slice(0, k);
}

function logSumExp(values: Float32Array): number {
  const highest = values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  return highest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - highest), 0));
}
