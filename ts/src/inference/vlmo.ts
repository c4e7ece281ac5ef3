/**
 * The public model: load once, then embed, match, re-rank, answer, reason and fill masks, all off the event loop.
 */

import type { VlmoConfig } from '../architecture/config.ts';
import type { MatchCalibration } from '../checkpoint/index.ts';
import { type DType, dtypes } from '../runtime/addon.ts';
import {
  describe,
  isObject,
  type Kinds,
  kinds,
  oneOf,
  takeOptions,
  takePath,
  takeTexts,
} from '../runtime/arguments.ts';
import { Engine, type Weights } from '../runtime/engine.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import { type Log, loggerKind } from '../runtime/logger.ts';
import { type ItemStream, isItemStream } from '../runtime/source.ts';
import type { Ability } from './abilities.ts';
import { type MixedItems, noItems, takeManyImages, takeMixed, takePairs } from './arguments.ts';
import { Batcher, type BatcherOptions } from './batcher.ts';
import {
  embedItems,
  imageStream,
  type StreamedEmbedding,
  type StreamOptions,
  streamKinds,
  textStream,
} from './embed-stream.ts';
import { type Embeddings, embeddingsOf } from './embeddings.ts';
import { type Fusion, matchProbability } from './fused-score.ts';
import { type LoadOptions, loadModel, type ModelParts } from './load.ts';
import type { MixedResults } from './mixed.ts';
import type { ImageInput } from './pictures.ts';
import type { Profile } from './profile.ts';
import { cosines, type RerankQuery, rankedBy, takeRerank } from './rerank.ts';
import {
  type AnswerCandidate,
  type CallOptions,
  callKinds,
  type MaskCandidates,
  type ModelState,
  type Ranked,
  type RerankOptions,
  rerankKinds,
  type TopOptions,
  topKinds,
} from './results.ts';
import { type Call, Runs } from './runs.ts';
import { answerQuestion, fillMasks, judgeStatement } from './task-calls.ts';
import { type WarmupOptions, warmUp, warmupKinds } from './warmup.ts';

const loadKinds: Kinds<LoadOptions> = {
  device: kinds.text,
  memoryLimit: kinds.size,
  dtype: oneOf(dtypes),
  threads: kinds.count,
  target: kinds.text,
  imageSize: kinds.count,
  config: kinds.object,
  download: kinds.flag,
  signal: kinds.signal,
  onProgress: kinds.callback,
  logger: loggerKind,
};

/** A loaded model. Safe under concurrent calls; `dispose` frees it, and is called by `await using`. */
export class Vlmo implements Fusion {
  readonly config: VlmoConfig;
  /** Numbers of one embedding: the size of a vector column or collection that keeps them. */
  readonly dimensions: number;
  /** Where it runs: `cpu` or `cuda:<index>`. */
  readonly device: 'cpu' | `cuda:${number}`;
  /** What weight matrices are kept as. */
  readonly dtype: DType;
  /** Kernel set in use: one of this processor, such as `avx2` or `neon`, or `cuda`. */
  readonly target: string;
  /** Hash of weights, configuration, vocabulary and preprocessing: an index made with one model refuses another. */
  readonly fingerprint: string;
  /** What the contrastive loss multiplies cosines with: `exp(logit_scale)`. */
  readonly similarityScale: number;
  /** How much the matching head's log-odds count beside the scaled similarity when both order candidates, see `fusedScore`. */
  readonly fusionWeight: number;
  /**
   * What makes probabilities of the matching head's log-odds, fitted on held-out pairs. Undefined for a model without: `match` then gives
   * the head's own number from 0 to 1, which orders pairs and is no probability.
   */
  readonly matchCalibration: MatchCalibration | undefined;
  /** Calls that the model has heads for; all others reject with `MOME_UNSUPPORTED`. */
  readonly abilities: ReadonlySet<Ability>;
  readonly #engine: Engine;
  readonly #weights: Weights;
  readonly #answers: readonly string[] | undefined;
  readonly #runs: Runs;
  readonly #log: Log;

  private constructor(parts: ModelParts) {
    check(
      isObject(parts) && parts.engine instanceof Engine,
      'MOME_INVALID_ARGUMENT',
      'Vlmo: expected "await Vlmo.load()", got "new Vlmo"',
    );
    this.config = parts.config;
    this.dimensions = parts.config.width;
    this.dtype = parts.dtype;
    this.device = parts.engine.deviceName;
    this.target = parts.engine.target;
    this.fingerprint = parts.fingerprint;
    this.similarityScale = parts.similarityScale;
    this.fusionWeight = parts.fusionWeight;
    this.matchCalibration = parts.matchCalibration;
    this.abilities = parts.abilities;
    this.#engine = parts.engine;
    this.#weights = parts.weights;
    this.#runs = new Runs(parts);
    this.#answers = parts.answers;
    this.#log = parts.log;
  }

  /**
   * Loads a model folder (`config.json` + `model.safetensors` + vocabulary), a checkpoint file, a model by its registered name, or,
   * without a path, the model that ships with the library. What is there as a path wins over a name. A named model has to be there, from
   * `mome pull` or {@link pullModel}, unless `download` is true.
   *
   * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_INVALID_CONFIG`, `MOME_INVALID_ARGUMENT`, `MOME_DEVICE_UNAVAILABLE`,
   *   `MOME_OUT_OF_MEMORY`, `MOME_ABORTED`
   * @example
   * const vlmo = await Vlmo.load();
   * const { embeddings } = await vlmo.embedTexts(['a happy cat']);
   */
  static async load(model?: string | URL, options?: LoadOptions): Promise<Vlmo> {
    const path = model === undefined ? undefined : takePath('load', model, 'a model folder or checkpoint');
    return new Vlmo(await loadModel(path, takeOptions('load', options, loadKinds)));
  }

  /**
   * Embeds pictures with the dual encoder.
   *
   * @returns [count, width] rows of length 1
   * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_NOT_FOUND`, `MOME_INVALID_IMAGE`, `MOME_TOO_LARGE`, `MOME_NON_FINITE`, each with the
   *   `index` of the picture; `MOME_UNSUPPORTED` when the model lacks the head, `MOME_ABORTED`, `MOME_DISPOSED`
   */
  embedImages(images: readonly ImageInput[], options?: CallOptions): Promise<Embeddings>;
  /**
   * Embeds a stream of pictures one after the other, in their order, in batches and with bounded memory: see {@link StreamOptions}. It is
   * read when the results are asked for. Leaving the loop, an error or the signal ends the source too. Each picture is taken over when it
   * is read; one of more than 8 MiB must not change afterwards.
   *
   * @returns one result for each picture
   * @throws MomeError as for a list; for wrong arguments at once. What the source throws comes after the results of what it gave before
   * @example
   * for await (const { input, embedding } of vlmo.embedImages(paths())) await database.insert(input, embedding);
   */
  embedImages<T extends ImageInput>(
    images: ItemStream<T>,
    options?: StreamOptions,
  ): AsyncGenerator<StreamedEmbedding<T>, void, undefined>;
  embedImages(images: readonly ImageInput[] | ItemStream<ImageInput>, options?: CallOptions | StreamOptions) {
    const where = 'embedImages';
    if (!isItemStream(images)) return Vlmo.#embedImages(this, where, images, options);
    const call = Vlmo.#begin(this, where, options, streamKinds);
    return embedItems(this.#runs, call, images, imageStream(where));
  }

  static async #embedImages(model: Vlmo, where: string, images: readonly ImageInput[], options?: CallOptions) {
    const call = Vlmo.#begin(model, where, options, callKinds);
    const taken = takeManyImages(where, images).then((own) => ({ ...noItems, images: own }));
    const outputs = await model.#runs.together(call, taken);
    return embeddingsOf(outputs.images, model.dimensions);
  }

  /**
   * Embeds texts with the dual encoder. Longer texts are cut to `maxTextLength` tokens, as the original does; an empty text is CLS
   * and SEP alone.
   *
   * @returns [count, width] rows of length 1
   * @throws MomeError `MOME_INVALID_ARGUMENT` and `MOME_TOO_LARGE` with the `index` of the text, `MOME_NOT_FOUND` when the model has no
   *   vocabulary, `MOME_UNSUPPORTED` when it lacks the head, `MOME_ABORTED`, `MOME_DISPOSED`
   */
  embedTexts(texts: readonly string[], options?: CallOptions): Promise<Embeddings>;
  /**
   * Embeds a stream of texts, as `embedImages` does one of pictures.
   *
   * @throws MomeError as for a list
   */
  embedTexts<T extends string>(
    texts: ItemStream<T>,
    options?: StreamOptions,
  ): AsyncGenerator<StreamedEmbedding<T>, void, undefined>;
  embedTexts(texts: readonly string[] | ItemStream<string>, options?: CallOptions | StreamOptions) {
    const where = 'embedTexts';
    if (!isItemStream(texts)) return Vlmo.#embedTexts(this, where, texts, options);
    const call = Vlmo.#begin(this, where, options, streamKinds);
    return embedItems(this.#runs, call, texts, textStream(where));
  }

  static async #embedTexts(model: Vlmo, where: string, texts: readonly string[], options?: CallOptions) {
    const call = Vlmo.#begin(model, where, options, callKinds);
    const taken = takeTexts(where, texts);
    const outputs = await model.#runs.together(call, { ...noItems, texts: taken });
    return embeddingsOf(outputs.texts, model.dimensions);
  }

  /**
   * Reads each picture together with its text and says how likely they belong together.
   *
   * @returns [pairs] numbers from 0 to 1: probabilities where the model has a {@link matchCalibration}, otherwise what the head says
   * @throws MomeError as `embedImages` and `embedTexts`, with the `index` of the pair
   */
  async match(
    pairs: readonly { readonly image: ImageInput; readonly text: string }[],
    options?: CallOptions,
  ): Promise<Float32Array> {
    const call = Vlmo.#begin(this, 'match', options, callKinds);
    const taken = takePairs(call.where, pairs).then((own) => ({ ...noItems, pairs: own }));
    const { logits } = await this.#runs.together(call, taken);
    return this.#matches(logits);
  }

  /**
   * Embeds pictures and texts and judges pairs together: what a service has waiting at a moment. Every result is, to the last bit, that
   * of `embedImages`, `embedTexts` and `match`. A large call is cut into runs that hold an even share of each kind. Only the heads of
   * the kinds that are there are asked for.
   *
   * @throws MomeError as `embedImages`, `embedTexts` and `match`
   */
  async mixed(items: MixedItems, options?: CallOptions): Promise<MixedResults> {
    const call = Vlmo.#begin(this, 'mixed', options, callKinds);
    const { images, texts, logits } = await this.#runs.together(call, takeMixed(call.where, items));
    return {
      images: embeddingsOf(images, this.dimensions),
      texts: embeddingsOf(texts, this.dimensions),
      pairs: this.#matches(logits),
    };
  }

  /**
   * Times one mixed pass, kernel by kernel. Pictures are prepared and weights packed beforehand.
   *
   * @throws MomeError as `mixed`
   */
  async profile(items: MixedItems): Promise<Profile> {
    const call = Vlmo.#begin(this, 'profile', undefined, callKinds);
    const taken = takeMixed(call.where, items);
    return this.#runs.job(async () => this.#runs.profile(call, await taken));
  }

  /**
   * Orders candidates by what both encoders say of them and the query: pictures for a text query, texts for a picture query. To a text
   * query a string is the path of a picture, as everywhere. Cosines are computed, or taken from `similarities`: whoever keeps vectors
   * elsewhere gives the cosines of the best few that were found there.
   *
   * @returns candidates best first, with the `score` they are ordered by; equal scores keep the order of the call
   * @throws MomeError as `match`, with the `index` of the candidate: `MOME_INVALID_ARGUMENT` when a picture query meets a candidate that
   *   is no text, `MOME_NOT_FOUND` when a text query meets a path where there is no file, `MOME_UNSUPPORTED` when the model lacks the
   *   matching head, or, without `similarities`, the contrastive one
   * @example
   * const found = nearest(queryVector, 32); // [{ id, path, cosine }] of a vector database
   * const similarities = found.map(({ cosine }) => cosine);
   * const ranked = await vlmo.rerank({ text: 'a cat' }, found.map(({ path }) => path), { similarities });
   * console.log(found[ranked[0].index].id, ranked[0].score);
   */
  async rerank(query: RerankQuery, candidates: readonly ImageInput[], options?: RerankOptions): Promise<Ranked[]> {
    const { similarities: given, rule, ...call } = Vlmo.#begin(this, 'rerank', options, rerankKinds);
    const { items, names, similarities } = takeRerank(query, candidates, given);
    const { images, texts, logits } = await this.#runs.together(call, items, names, ['pairs']);
    const isText = items.texts.length === 1;
    const computed = () => (isText ? cosines(texts, images) : cosines(images, texts));
    return rankedBy(similarities ?? computed(), logits, this, rule);
  }

  /**
   * Answers a question about a picture from the model's answer list, `answers.json` beside the weights.
   *
   * @returns answers with their probabilities (independent of each other, as in VQA v2), best first
   * @throws MomeError as `embedImages` and `embedTexts`: `MOME_UNSUPPORTED` when the model has no answer head
   */
  async answer(image: ImageInput, question: string, options?: TopOptions): Promise<AnswerCandidate[]> {
    const call = Vlmo.#begin(this, 'answer', options, topKinds);
    return answerQuestion(this.#runs, call, image, question, this.#answers);
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
    options?: CallOptions,
  ): Promise<{ readonly probability: number }> {
    const call = Vlmo.#begin(this, 'reason', options, callKinds);
    return judgeStatement(this.#runs, call, images, statement);
  }

  /**
   * Proposes word pieces for every `[MASK]` of a text, with or without a picture to look at.
   *
   * @returns for each mask its `k` likeliest pieces; the probabilities of all pieces sum to 1
   * @throws MomeError as `embedImages` and `embedTexts`: `MOME_UNSUPPORTED` when the model has no masked-language head
   */
  async fillMask(image: ImageInput | null, text: string, options?: TopOptions): Promise<MaskCandidates[]> {
    const call = Vlmo.#begin(this, 'fillMask', options, topKinds);
    return fillMasks(this.#runs, call, image, text);
  }

  /**
   * A queue in front of this model for a service: calls of many clients share runs. Its results are, to the last bit, those of the model's
   * own methods.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_DISPOSED`
   * @example
   * const batcher = vlmo.batcher({ maxItems: 1024 });
   * const { embeddings } = await batcher.embedTexts(['a happy cat'], { client: 'a', timeout: 1000 });
   */
  batcher(options?: BatcherOptions): Batcher {
    Vlmo.#begin(this, 'batcher', undefined, callKinds);
    return new Batcher(this, this.#runs, this.#answers, options);
  }

  /**
   * Makes a small call of each kind, so that the first request of a service does not wait: weights are packed for the kernels, and the
   * processes that decode pictures are started.
   *
   * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_UNSUPPORTED` for a call that the model has no head for, `MOME_OUT_OF_MEMORY`,
   *   `MOME_ABORTED`, `MOME_DISPOSED`
   */
  async warmup(options?: WarmupOptions): Promise<void> {
    const { where: _, ...taken } = Vlmo.#begin(this, 'warmup', options, warmupKinds);
    await warmUp(this, this.#runs.hasVocabulary, taken);
  }

  /** How much this model has to do: what a service limits and reports. Of a disposed model, what has not settled yet. */
  get state(): ModelState {
    Vlmo.#requireModel(this, 'state');
    return this.#runs.state;
  }

  /** Bytes this model holds in native memory. */
  memory(): { readonly arenaBytes: number; readonly weightBytes: number } {
    Vlmo.#begin(this, 'memory', undefined, callKinds);
    return this.#engine.memory();
  }

  /** Stops running calls, which reject with `MOME_ABORTED`, and frees native memory. Calling it again does nothing. */
  async dispose(): Promise<void> {
    Vlmo.#requireModel(this, 'dispose');
    if (this.#runs.disposed) return;
    this.#runs.dispose();
    this.#weights.dispose();
    this.#engine.dispose();
    this.#log('info', 'model disposed', () => ({ fingerprint: this.fingerprint }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  /** Begins a call: refuses it for a wrong `this`, wrong options, a disposed model or a signal that has fired. */
  static #begin<T extends CallOptions>(model: Vlmo, where: string, options: T | undefined, known: Kinds<T>): T & Call {
    Vlmo.#requireModel(model, where);
    const taken = takeOptions(where, options, known);
    check(!model.#runs.disposed, 'MOME_DISPOSED', `${where}: expected a live model, got one that was disposed`);
    requireNotAborted(taken.signal, where);
    return { ...taken, where };
  }

  static #requireModel(model: unknown, where: string): void {
    check(
      isObject(model) && #engine in model,
      'MOME_INVALID_ARGUMENT',
      `${where}: expected to be called as a method of a model, got ${describe(model)} as "this"`,
    );
  }

  /** The probabilities that [pairs, 2] logits of the matching head stand for. */
  #matches(logits: Float32Array): Float32Array {
    return Float32Array.from({ length: logits.length / 2 }, (_, i) =>
      matchProbability(logits[2 * i + 1]! - logits[2 * i]!, this.matchCalibration),
    );
  }
}
