/**
 * `mome eval retrieval`: recall of a model on the held-out emoji drawings, one caption (the label) per picture.
 */
import { fusedScore } from '../model/fused-score.ts';
import type { Vlmo } from '../model/vlmo.ts';
import { check } from '../runtime/errors.ts';
import { evaluationCaption } from './data/captions.ts';
import { type EmojiStyle, flattenOnWhite, loadEmojiPictures } from './data/emoji.ts';
import { type RankedAll, type Rankings, type RetrievalScores, rankAll, recall, rerankAll } from './retrieval.ts';

/** Most pairs of one fusion call: keeps progress moving and memory bounded. */
const pairsPerCall = 512;

export interface EvaluateOptions {
  readonly model: Vlmo;
  /** Drawing style to evaluate on; `noto` is never seen in training. */
  readonly style?: EmojiStyle;
  /** Candidates of each query that the fusion encoder re-ranks; 0 leaves it out. */
  readonly k?: number;
  readonly cacheDir?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** What `mome eval retrieval --json` prints. */
export interface RetrievalReport {
  readonly n: number;
  readonly dual: RetrievalScores;
  readonly reranked: RetrievalScores | null;
}

/**
 * Ranks all pictures for each caption and all captions for each picture, by the dual encoder and after fusion re-ranking of the
 * first `k`.
 */
export async function evaluateRetrieval(options: EvaluateOptions): Promise<RetrievalReport> {
  const { model, style = 'noto', k = 32, cacheDir, signal, onProgress } = options;
  check(Number.isInteger(k) && k >= 0, 'MOME_INVALID_ARGUMENT', `evaluate: expected k to be an integer >= 0, got ${k}`);
  const size = model.config.imageSize;
  const { drawings, pixels } = await loadEmojiPictures({
    style,
    size,
    ...(cacheDir && { cacheDir }),
    ...(signal && { signal }),
  });
  const rgb = flattenOnWhite(pixels);
  const pictures = drawings.map((_, i) => ({
    data: rgb.subarray(i * size * size * 3, (i + 1) * size * size * 3),
    width: size,
    height: size,
    channels: 3 as const,
  }));
  const captions = drawings.map(evaluationCaption);
  const call = signal ? { signal } : {};
  const images = await model.embedImages(pictures, call);
  const texts = await model.embedTexts(captions, call);
  const depth = Math.max(10, k);
  const textToImage = await rankAll(texts.embeddings, images.embeddings, images.width, depth);
  const imageToText = await rankAll(images.embeddings, texts.embeddings, images.width, depth);
  const dual = { textToImage: ownRecall(textToImage.rankings), imageToText: ownRecall(imageToText.rankings) };
  if (k === 0) return { n: drawings.length, dual, reranked: null };

  const total = 2 * drawings.length * k;
  let done = 0;
  const rerank = async (
    { rankings, scores: cosines }: RankedAll,
    pairOf: (query: number, candidate: number) => [image: number, text: number],
  ) => {
    const pairs = rankings.flatMap((ranking, query) =>
      [...ranking.subarray(0, k)].map((candidate) => pairOf(query, candidate)),
    );
    const scores = new Float32Array(pairs.length);
    for (let first = 0; first < pairs.length; first += pairsPerCall) {
      const part = pairs.slice(first, first + pairsPerCall);
      scores.set(
        await model.match(
          part.map(([image, text]) => ({ image: pictures[image]!, text: captions[text]! })),
          call,
        ),
        first,
      );
      done += part.length;
      onProgress?.(done, total);
    }
    const width = Math.min(k, drawings.length);
    for (const [i, match] of scores.entries()) {
      scores[i] = fusedScore(match, cosines[Math.floor(i / width)]![i % width]!, model.similarityScale);
    }
    return rerankAll(
      rankings,
      rankings.map((_, query) => scores.subarray(query * width, (query + 1) * width)),
    );
  };
  const reranked = {
    textToImage: ownRecall(await rerank(textToImage, (text, image) => [image, text])),
    imageToText: ownRecall(await rerank(imageToText, (image, text) => [image, text])),
  };
  return { n: drawings.length, dual, reranked };
}

const ownRecall = (rankings: Rankings) => recall(rankings, (query, candidate) => query === candidate);
