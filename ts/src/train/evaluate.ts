/**
 * `mome eval retrieval`: recall of a model on the held-out emoji drawings, one caption (the label) per picture.
 */

import type { MatchCalibration } from '../checkpoint/index.ts';
import type { RawImage } from '../image/pixels.ts';
import { type Fusion, fusedScore, matchLogOdds, matchProbability } from '../inference/fused-score.ts';
import type { Vlmo } from '../inference/index.ts';
import { checkKind, kinds, withMethods } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { expectedCalibrationError, fitCalibration } from './calibrate.ts';
import { evaluationCaption } from './data/captions.ts';
import { type EmojiStyle, flattenOnWhite, loadEmojiPictures } from './data/emoji.ts';
import type { PairDataset } from './data/pairs.ts';
import { checkEvaluation } from './evaluation-arguments.ts';
import { type RankedAll, type Rankings, type RetrievalScores, rankAll, recall, rerankAll } from './retrieval.ts';

/** Most pairs of one fusion call: keeps progress moving and memory bounded. */
const pairsPerCall = 512;

export interface EvaluateOptions {
  readonly model: Vlmo;
  /** Drawing style to evaluate on; `noto` is never seen in training. */
  readonly style?: EmojiStyle;
  /** Pictures of the model's size to evaluate on in place of a style, each with its first caption. */
  readonly dataset?: PairDataset;
  /** Candidates of each query that the fusion encoder re-ranks; 0 leaves it out. */
  readonly k?: number;
  /** How much the matching head counts; default: as the model says. */
  readonly fusionWeight?: number;
  readonly cacheDir?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Output of `mome eval retrieval --json`. */
export interface RetrievalReport {
  readonly n: number;
  readonly dual: RetrievalScores;
  readonly reranked: RetrievalScores | null;
}

/** Similarities and matches of the first candidates of every query. */
interface Judged {
  readonly ranked: RankedAll;
  /** [queries * k] what `match` gives, or undefined when nothing is re-ranked. */
  readonly matches: Float32Array | undefined;
}

/**
 * Ranks all pictures for each caption and all captions for each picture, by the dual encoder and after fusion re-ranking of the
 * first `k`.
 */
export async function evaluateRetrieval(options: EvaluateOptions): Promise<RetrievalReport> {
  checkEvaluation('evaluateRetrieval', options, 'embedImages', 'embedTexts');
  const { model, k = 32, fusionWeight = model.fusionWeight } = options;
  const { n, textToImage, imageToText } = await judge(options);
  const dual = {
    textToImage: ownRecall(textToImage.ranked.rankings),
    imageToText: ownRecall(imageToText.ranked.rankings),
  };
  if (k === 0) return { n, dual, reranked: null };
  const reranked = {
    textToImage: ownRecall(rerank(textToImage, fusionOf(model, fusionWeight))),
    imageToText: ownRecall(rerank(imageToText, fusionOf(model, fusionWeight))),
  };
  return { n, dual, reranked };
}

/** Result of {@link fitFusionWeight}. */
export interface FusionWeightFit {
  readonly weight: number;
  /** Mean R@1 of both directions over the queries it was fitted on, and over the others, before and after re-ranking. */
  readonly fitted: { readonly dual: number; readonly reranked: number };
  readonly others: { readonly dual: number; readonly reranked: number };
}

/**
 * How much the matching head should count beside the similarity (`fusedScore`): the weight with the best R@1 over every second query.
 * The other half says what it is worth on queries it was not fitted on.
 *
 * @param weights candidates, ascending; the lowest of equals is taken
 */
export async function fitFusionWeight(
  options: EvaluateOptions & { readonly weights: readonly number[] },
): Promise<FusionWeightFit> {
  checkEvaluation('fitFusionWeight', options, 'embedImages', 'embedTexts');
  checkKind('fitFusionWeight', 'weights', options.weights, kinds.numbers);
  const { model, weights } = options;
  check(weights.length > 0, 'MOME_INVALID_ARGUMENT', 'fitFusionWeight: expected at least one weight, got none');
  const { textToImage, imageToText } = await judge(options);
  const meanR1 = (rankings: readonly Rankings[], half: number): number => {
    const recalls = rankings.map(
      (each) =>
        recall(
          each.filter((_, query) => query % 2 === half),
          (query, candidate) => 2 * query + half === candidate,
        ).r1,
    );
    return recalls.reduce((sum, r1) => sum + r1, 0) / recalls.length;
  };
  const dual = [textToImage.ranked.rankings, imageToText.ranked.rankings];
  const ranked = weights.map((weight) => ({
    weight,
    rankings: [textToImage, imageToText].map((each) => rerank(each, fusionOf(model, weight))),
  }));
  const best = ranked.reduce((a, b) => (meanR1(b.rankings, 0) > meanR1(a.rankings, 0) ? b : a));
  return {
    weight: best.weight,
    fitted: { dual: meanR1(dual, 0), reranked: meanR1(best.rankings, 0) },
    others: { dual: meanR1(dual, 1), reranked: meanR1(best.rankings, 1) },
  };
}

/** Result of {@link fitMatchCalibration}. */
export interface MatchCalibrationFit extends MatchCalibration {
  /** Candidates of each query that were judged, and the share of right pairs among them. */
  readonly candidates: number;
  readonly share: number;
  /** Pairs of the queries it was fitted on. */
  readonly pairs: number;
  /** Over the other queries: distance of probability and truth (`expectedCalibrationError`), and what right pairs get on average. */
  readonly others: {
    readonly pairs: number;
    readonly errorBefore: number;
    readonly errorAfter: number;
    readonly rightBefore: number;
    readonly rightAfter: number;
  };
}

/**
 * Fits what makes probabilities of the matching head's log-odds, on pairs as a search shows them: for every second held-out query the
 * first `k` candidates of the dual encoder (default 10), both ways. The other half of the queries says what it is worth.
 */
export async function fitMatchCalibration(options: EvaluateOptions): Promise<MatchCalibrationFit> {
  checkEvaluation('fitMatchCalibration', options, 'embedImages', 'embedTexts');
  const { model, k = 10 } = options;
  check(k > 0, 'MOME_INVALID_ARGUMENT', `fitMatchCalibration: expected k > 0, got ${k}`);
  const { captions, textToImage, imageToText } = await judge({ ...options, k });
  const halves = [0, 1].map((half) => {
    const logOdds: number[] = [];
    const isRight: number[] = [];
    for (const { ranked, matches } of [textToImage, imageToText]) {
      const width = matches!.length / captions.length;
      for (const [i, match] of matches!.entries()) {
        const query = Math.floor(i / width);
        if (query % 2 !== half) continue;
        const candidate = ranked.rankings[query]![i % width]!;
        logOdds.push(matchLogOdds(match, model.matchCalibration));
        isRight.push(captions[candidate] === captions[query] ? 1 : 0);
      }
    }
    return { logOdds, isRight };
  });
  const [fitted, others] = [halves[0]!, halves[1]!];
  const calibration = fitCalibration(fitted.logOdds, fitted.isRight);
  const before = others.logOdds.map((logOdds) => matchProbability(logOdds));
  const after = others.logOdds.map((logOdds) => matchProbability(logOdds, calibration));
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const ofRight = (values: readonly number[]) => mean(values.filter((_, i) => others.isRight[i] === 1));
  return {
    ...calibration,
    candidates: k,
    share: mean(fitted.isRight),
    pairs: fitted.isRight.length,
    others: {
      pairs: others.isRight.length,
      errorBefore: expectedCalibrationError(before, others.isRight),
      errorAfter: expectedCalibrationError(after, others.isRight),
      rightBefore: ofRight(before),
      rightAfter: ofRight(after),
    },
  };
}

async function judge(options: EvaluateOptions): Promise<{
  readonly n: number;
  readonly captions: readonly string[];
  readonly textToImage: Judged;
  readonly imageToText: Judged;
}> {
  const { model, k = 32, signal, onProgress } = options;
  check(Number.isInteger(k) && k >= 0, 'MOME_INVALID_ARGUMENT', `evaluate: expected k to be an integer >= 0, got ${k}`);
  const { pictures, captions } = options.dataset ? await picturesOf(options.dataset, model) : await drawn(options);
  const call = signal ? { signal } : {};
  const images = await model.embedImages(pictures, call);
  const texts = await model.embedTexts(captions, call);
  const depth = Math.max(10, k);
  const total = 2 * pictures.length * k;
  let done = 0;
  const judged = async (
    queries: Float32Array,
    items: Float32Array,
    pairOf: (query: number, candidate: number) => [image: number, text: number],
  ): Promise<Judged> => {
    const ranked = await rankAll(queries, items, images.width, depth);
    if (k === 0) return { ranked, matches: undefined };
    const pairs = ranked.rankings.flatMap((ranking, query) =>
      [...ranking.subarray(0, k)].map((candidate) => pairOf(query, candidate)),
    );
    const matches = new Float32Array(pairs.length);
    for (let first = 0; first < pairs.length; first += pairsPerCall) {
      const part = pairs.slice(first, first + pairsPerCall);
      const items = part.map(([image, text]) => ({ image: pictures[image]!, text: captions[text]! }));
      matches.set(await model.match(items, call), first);
      done += part.length;
      onProgress?.(done, total);
    }
    return { ranked, matches };
  };
  const textToImage = await judged(texts.embeddings, images.embeddings, (text, image) => [image, text]);
  const imageToText = await judged(images.embeddings, texts.embeddings, (image, text) => [image, text]);
  return { n: pictures.length, captions, textToImage, imageToText };
}

/** Pictures in order, and the caption of each. */
interface Captioned {
  readonly pictures: readonly RawImage[];
  readonly captions: readonly string[];
}

/** The drawings of a style with their labels. */
async function drawn({ model, style = 'noto', cacheDir, signal }: EvaluateOptions): Promise<Captioned> {
  const size = model.config.imageSize;
  const { drawings, pixels } = await loadEmojiPictures({
    style,
    size,
    ...(cacheDir && { cacheDir }),
    ...(signal && { signal }),
  });
  const rgb = flattenOnWhite(pixels);
  const bytes = 3 * size ** 2;
  const pictures = drawings.map((_, i) => pictureOf(rgb.subarray(i * bytes, (i + 1) * bytes), size));
  return { pictures, captions: drawings.map(evaluationCaption) };
}

async function picturesOf(dataset: PairDataset, { config }: Vlmo): Promise<Captioned> {
  checkKind('evaluate', 'dataset', dataset, withMethods('a data set of openPairs', 'captions', 'image'));
  check(
    dataset.size === config.imageSize && dataset.channels === 3,
    'MOME_INVALID_ARGUMENT',
    `evaluate: expected pictures of ${config.imageSize} pixels in three channels, got ${dataset.size} and ${dataset.channels}`,
  );
  const pictures: RawImage[] = [];
  for (let i = 0; i < dataset.length; i++) pictures.push(pictureOf(await dataset.image(i), dataset.size));
  return { pictures, captions: pictures.map((_, i) => dataset.captions(i)[0]!) };
}

const pictureOf = (data: Uint8Array, size: number): RawImage => ({ data, width: size, height: size, channels: 3 });

/** A model's way to order candidates, with another weight. */
const fusionOf = ({ similarityScale, matchCalibration }: Fusion, fusionWeight: number): Fusion => ({
  similarityScale,
  matchCalibration,
  fusionWeight,
});

/** The rankings with their first candidates ordered by what both encoders say. */
function rerank({ ranked, matches }: Judged, fusion: Fusion): Rankings {
  const { rankings, scores: cosines } = ranked;
  if (!matches) return rankings;
  const width = matches.length / Math.max(1, rankings.length);
  const scores = matches.map((match, i) =>
    fusedScore({ match, similarity: cosines[Math.floor(i / width)]![i % width]! }, fusion),
  );
  return rerankAll(
    rankings,
    rankings.map((_, query) => scores.subarray(query * width, (query + 1) * width)),
  );
}

const ownRecall = (rankings: Rankings) => recall(rankings, (query, candidate) => query === candidate);
