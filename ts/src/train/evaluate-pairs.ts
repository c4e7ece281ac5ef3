/**
 * `mome eval retrieval --data`: recall on any set of pictures with captions, by the protocol of Karpathy's splits: all captions or the
 * first few of each picture, the whole set or the mean of folds, by the dual encoder alone and after re-ranking.
 */

import type { Vlmo } from '../inference/index.ts';
import type { RerankOptions } from '../inference/results.ts';
import { checkKind, withMethods } from '../runtime/arguments.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import type { PairDataset } from './data/pairs.ts';
import { checkEvaluation } from './evaluation-arguments.ts';
import { type Rankings, type Recall, type RetrievalScores, rankAll, recall } from './retrieval.ts';

/** Pictures of one call of the dual encoder, and texts. */
const itemsPerCall = 64;
/** Pixels that are kept while candidates are re-ranked; beyond, pictures are read again for each query. */
const mostPixels = 2 ** 32;
/** Results that recall looks at. */
const deepest = 10;

export interface PairsEvaluation {
  readonly model: Vlmo;
  /** Pictures of the model's size with captions; items of one group are one picture. */
  readonly dataset: PairDataset;
  /** Most captions of a picture that count, the first ones; all unless named. COCO's test pictures have up to seven. */
  readonly captions?: number;
  /** Cut the pictures into folds of so many, in their order, and give the means; the last ones that fill no fold are left out. */
  readonly fold?: number;
  /** Candidates of each query that the fusion encoder re-ranks; 32 unless named, 0 leaves it out. */
  readonly k?: number;
  /** The rule that re-ranking orders by, as in `Vlmo.rerank`. */
  readonly rule?: NonNullable<RerankOptions['rule']>;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
  /** Called for each query, for a look at errors. */
  readonly onQuery?: (query: QueryResult) => void;
}

/** How one query went. */
export interface QueryResult {
  readonly fold: number;
  readonly direction: keyof RetrievalScores;
  /** The caption, or the name of the picture. */
  readonly query: string;
  /** Place of the first right result, counted from 1; null where it is not among those that were looked at. */
  readonly rank: number | null;
  /** The same after re-ranking; null too where nothing was re-ranked. */
  readonly rerankedRank: number | null;
  /** The first result, after re-ranking where there was any. */
  readonly best: string;
}

/** Recall in both directions, and the mean of its six numbers. */
export interface MeanScores extends RetrievalScores {
  readonly mean: number;
}

/** Output of `mome eval retrieval --data --json`. */
export interface PairsReport {
  /** Pictures and captions of all folds together. */
  readonly pictures: number;
  readonly captions: number;
  readonly folds: number;
  /** Pictures that filled no fold. */
  readonly leftOut: number;
  readonly k: number;
  readonly dual: MeanScores;
  readonly reranked: MeanScores | null;
}

/** A picture with its captions. */
interface Picture {
  /** Its item in the data set. */
  readonly item: number;
  readonly name: string;
  readonly captions: readonly string[];
}

/**
 * Measures retrieval. A picture query is a hit at n when any of its own captions is among the first n, a caption when its picture is. Equal
 * scores keep the order of the set.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for options out of range, a data set of another size than the model's, or a fold that is larger
 *   than the set; else as `embedImages` and `rerank`
 */
export async function evaluatePairs(options: PairsEvaluation): Promise<PairsReport> {
  checkEvaluation('evaluatePairs', options, 'embedImages', 'embedTexts');
  checkKind(
    'evaluatePairs',
    'dataset',
    options.dataset,
    withMethods('a data set of openPairs', 'group', 'captions', 'image'),
  );
  const { model, dataset, captions: most = Number.POSITIVE_INFINITY, k = 32, signal } = options;
  const isCount = (value: number) => value === Number.POSITIVE_INFINITY || (Number.isInteger(value) && value > 0);
  check(isCount(most), 'MOME_INVALID_ARGUMENT', `evaluatePairs: expected captions > 0, got ${most}`);
  check(Number.isInteger(k) && k >= 0, 'MOME_INVALID_ARGUMENT', `evaluatePairs: expected k >= 0, got ${k}`);
  check(
    dataset.size === model.config.imageSize && dataset.channels === 3,
    'MOME_INVALID_ARGUMENT',
    `evaluatePairs: expected pictures of ${model.config.imageSize} pixels in three channels, got ${dataset.size} and ${dataset.channels}`,
  );
  const all = picturesOf(dataset, most);
  const { fold = all.length } = options;
  check(
    Number.isInteger(fold) && fold > 0 && fold <= all.length,
    'MOME_INVALID_ARGUMENT',
    `evaluatePairs: expected a fold of 1 to ${all.length} pictures, got ${fold}`,
  );
  const folds = Math.floor(all.length / fold);
  const pictures = all.slice(0, folds * fold);
  const captions = pictures.reduce((sum, each) => sum + each.captions.length, 0);
  const progress = new Progress(options, 2 * (pictures.length + captions));
  const results: { readonly dual: RetrievalScores; readonly reranked: RetrievalScores | null }[] = [];
  for (let index = 0; index < folds; index++) {
    requireNotAborted(signal, 'evaluatePairs');
    results.push(
      await new Fold(options, k, index, pictures.slice(index * fold, (index + 1) * fold), progress).evaluate(),
    );
  }
  return {
    pictures: pictures.length,
    captions,
    folds,
    leftOut: all.length - pictures.length,
    k,
    dual: meanOf(results.map(({ dual }) => dual)),
    reranked: k === 0 ? null : meanOf(results.map(({ reranked }) => reranked!)),
  };
}

/** The pictures of a set, each once with the captions of all its items. */
function picturesOf(dataset: PairDataset, most: number): Picture[] {
  const byGroup = new Map<number, { item: number; captions: string[] }>();
  for (let item = 0; item < dataset.length; item++) {
    const group = dataset.group(item);
    const known = byGroup.get(group);
    if (known) known.captions.push(...dataset.captions(item));
    else byGroup.set(group, { item, captions: [...dataset.captions(item)] });
  }
  return [...byGroup.values()].map(({ item, captions }) => ({
    item,
    name: dataset.source?.(item) ?? `item ${item}`,
    captions: captions.slice(0, most),
  }));
}

/** Pictures and captions that are compared with each other. */
class Fold {
  readonly #options: PairsEvaluation;
  readonly #k: number;
  readonly #index: number;
  readonly #pictures: readonly Picture[];
  readonly #progress: Progress;
  readonly #captions: readonly string[];
  /** Which picture each caption belongs to. */
  readonly #owners: readonly number[];
  readonly #pixels: (Uint8Array | undefined)[] = [];

  constructor(options: PairsEvaluation, k: number, index: number, pictures: readonly Picture[], progress: Progress) {
    this.#options = options;
    this.#k = k;
    this.#index = index;
    this.#pictures = pictures;
    this.#progress = progress;
    this.#captions = pictures.flatMap(({ captions }) => captions);
    this.#owners = pictures.flatMap(({ captions }, picture) => captions.map(() => picture));
  }

  async evaluate() {
    const images = await this.#embedImages();
    const texts = await this.#embedTexts();
    const { width } = this.#options.model.config;
    const depth = Math.max(deepest, this.#k);
    const toImages = await rankAll(texts, images, width, Math.min(depth, this.#pictures.length));
    const toTexts = await rankAll(images, texts, width, Math.min(depth, this.#captions.length));
    const rankings = { textToImage: toImages.rankings, imageToText: toTexts.rankings };
    const reranked = {
      textToImage: await this.#rerank(toImages.rankings, toImages.scores, (caption, similarities) => ({
        query: { text: this.#captions[caption]! },
        candidates: (picture: number) => this.#picture(picture),
        similarities,
      })),
      imageToText: await this.#rerank(toTexts.rankings, toTexts.scores, async (picture, similarities) => ({
        query: { image: await this.#picture(picture) },
        candidates: (caption: number) => this.#captions[caption]!,
        similarities,
      })),
    };
    this.#report('textToImage', rankings.textToImage, reranked.textToImage);
    this.#report('imageToText', rankings.imageToText, reranked.imageToText);
    const scoresOf = (both: Readonly<Record<keyof RetrievalScores, Rankings>>): RetrievalScores => ({
      textToImage: recall(both.textToImage, (caption, picture) => this.#owners[caption] === picture),
      imageToText: recall(both.imageToText, (picture, caption) => this.#owners[caption] === picture),
    });
    return { dual: scoresOf(rankings), reranked: this.#k === 0 ? null : scoresOf(reranked) };
  }

  async #embedImages(): Promise<Float32Array> {
    const { model } = this.#options;
    const bytes = this.#pictures.length * 3 * model.config.imageSize ** 2;
    const keeps = this.#k > 0 && bytes <= mostPixels;
    const embeddings = new Float32Array(this.#pictures.length * model.config.width);
    for (let first = 0; first < this.#pictures.length; first += itemsPerCall) {
      const part = this.#pictures.slice(first, first + itemsPerCall);
      const shown = await Promise.all(part.map((_, i) => this.#picture(first + i)));
      if (keeps) for (const [i, { data }] of shown.entries()) this.#pixels[first + i] = data;
      embeddings.set((await model.embedImages(shown, this.#call())).embeddings, first * model.config.width);
      this.#progress.add(part.length);
    }
    return embeddings;
  }

  async #embedTexts(): Promise<Float32Array> {
    const { model } = this.#options;
    const embeddings = new Float32Array(this.#captions.length * model.config.width);
    for (let first = 0; first < this.#captions.length; first += itemsPerCall) {
      const part = this.#captions.slice(first, first + itemsPerCall);
      embeddings.set((await model.embedTexts(part, this.#call())).embeddings, first * model.config.width);
      this.#progress.add(part.length);
    }
    return embeddings;
  }

  /** Re-ranks the first candidates of each ranking; the others keep their places. */
  async #rerank(
    rankings: Rankings,
    scores: readonly Float32Array[],
    prepare: (query: number, similarities: Float32Array) => Judgement | Promise<Judgement>,
  ): Promise<Rankings> {
    if (this.#k === 0) return rankings;
    const result: Int32Array[] = [];
    for (const [query, ranking] of rankings.entries()) {
      const first = ranking.subarray(0, this.#k);
      const { query: asked, candidates, similarities } = await prepare(query, scores[query]!.subarray(0, first.length));
      const shown = await Promise.all([...first].map(candidates));
      const { rule } = this.#options;
      const options = { ...this.#call(), similarities, ...(rule && { rule }) };
      const ranked = await this.#options.model.rerank(asked, shown, options);
      const order = Int32Array.from(ranking);
      for (const [place, { index }] of ranked.entries()) order[place] = ranking[index]!;
      result.push(order);
      this.#progress.add(1);
    }
    return result;
  }

  async #picture(picture: number) {
    const { dataset, model } = this.#options;
    const data = this.#pixels[picture] ?? (await dataset.image(this.#pictures[picture]!.item));
    const { imageSize } = model.config;
    return { data, width: imageSize, height: imageSize, channels: 3 as const };
  }

  #call() {
    const { signal } = this.#options;
    return signal ? { signal } : {};
  }

  #report(direction: keyof RetrievalScores, dual: Rankings, reranked: Rankings): void {
    const { onQuery } = this.#options;
    if (!onQuery) return;
    const toImage = direction === 'textToImage';
    const isRight = (query: number, result: number) =>
      toImage ? this.#owners[query] === result : this.#owners[result] === query;
    const nameOf = (item: number, isPicture: boolean) =>
      isPicture ? this.#pictures[item]!.name : this.#captions[item]!;
    const rankOf = (rankings: Rankings, query: number) => {
      const place = rankings[query]!.findIndex((result) => isRight(query, result));
      return place < 0 ? null : place + 1;
    };
    for (const query of dual.keys()) {
      onQuery({
        fold: this.#index,
        direction,
        query: nameOf(query, !toImage),
        rank: rankOf(dual, query),
        rerankedRank: this.#k === 0 ? null : rankOf(reranked, query),
        best: nameOf(reranked[query]![0]!, toImage),
      });
    }
  }
}

type Candidate = Parameters<Vlmo['rerank']>[1][number];

/** What `rerank` is given for one query; a candidate is made when it is needed. */
interface Judgement {
  readonly query: Parameters<Vlmo['rerank']>[0];
  readonly candidates: (candidate: number) => Candidate | Promise<Candidate>;
  readonly similarities: Float32Array;
}

class Progress {
  readonly #report: PairsEvaluation['onProgress'];
  readonly #total: number;
  #done = 0;

  constructor({ onProgress, k }: PairsEvaluation, total: number) {
    this.#report = onProgress;
    this.#total = k === 0 ? total / 2 : total;
  }

  add(count: number): void {
    this.#done += count;
    this.#report?.(this.#done, this.#total);
  }
}

/** The mean of each number over folds, and of all six. */
function meanOf(scores: readonly RetrievalScores[]): MeanScores {
  const meanRecall = (direction: keyof RetrievalScores): Recall => {
    const mean = (at: keyof Recall) => scores.reduce((sum, each) => sum + each[direction][at], 0) / scores.length;
    return { r1: mean('r1'), r5: mean('r5'), r10: mean('r10') };
  };
  const [textToImage, imageToText] = [meanRecall('textToImage'), meanRecall('imageToText')];
  const six = [...Object.values(textToImage), ...Object.values(imageToText)];
  return { textToImage, imageToText, mean: six.reduce((sum, value) => sum + value, 0) / six.length };
}
