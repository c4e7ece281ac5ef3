/** A provider for the AI SDK: embedding and re-ranking models of a VLMo in this process. */
import type {
  EmbeddingModelV3,
  EmbeddingModelV3CallOptions,
  ProviderV3,
  RerankingModelV3,
  RerankingModelV3CallOptions,
} from '@ai-sdk/provider';
import type { ImageInput } from '../inference/pictures.ts';
import type { RerankOptions } from '../inference/results.ts';
import { checkKind, describe, isObject, type Kinds, kinds, takeFields } from '../runtime/arguments.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { type Encoders, embedAs, encodersKind, endedByReason, signalOption } from './calls.ts';

/** Names of models: whether values and documents are texts or pictures. */
export type MomeModelId = 'text' | 'image';

/** The provider that {@link createMome} makes. It fits `createProviderRegistry` of the AI SDK, and has no language or image models. */
export interface MomeProvider extends ProviderV3 {
  /**
   * `text` embeds texts. `image` embeds pictures: each value is a path, a `file:` URL or a `data:` URL. Both give vectors of the same
   * space, [width] numbers of length 1.
   *
   * @throws MomeError `MOME_NOT_FOUND` for another name
   */
  embeddingModel(modelId: MomeModelId | (string & {})): EmbeddingModelV3;
  /**
   * `image` orders pictures by a text. `text` orders texts by a picture, whose path or URL is the query. Documents are texts, or objects
   * with a text under `image` or `text`. The option `similarities` of `providerOptions.mome` gives the cosine of the query and each
   * document, which are then not embedded again.
   *
   * @throws MomeError `MOME_NOT_FOUND` for another name
   */
  rerankingModel(modelId: MomeModelId | (string & {})): RerankingModelV3;
}

/** Options of a re-ranking call under `providerOptions.mome`. */
const ownKinds: Kinds<Pick<RerankOptions, 'similarities'>> = { similarities: kinds.numbers };

/**
 * Makes a provider of a model. Calls reject with a `MomeError`, `MOME_UNSUPPORTED` where the model lacks the head, and with the reason of
 * the signal where one ends them. The AI SDK does not repeat them.
 *
 * @param vlmo a model, a batcher of one, or a request of a batcher; it stays the caller's to dispose
 * @throws MomeError `MOME_INVALID_ARGUMENT`
 * @example
 * const mome = createMome(await Vlmo.load());
 * const { embeddings } = await embedMany({ model: mome.embeddingModel('image'), values: ['cat.png', 'train.svg'] });
 */
export function createMome(vlmo: Encoders): MomeProvider {
  checkKind('createMome', 'vlmo', vlmo, encodersKind);
  const lacking = (kind: string) => () => {
    throw new MomeError('MOME_UNSUPPORTED', `mome: expected an embedding or re-ranking model, got ${kind}`);
  };
  return {
    specificationVersion: 'v3',
    embeddingModel: (modelId) => embeddingModel(vlmo, requireId(modelId)),
    rerankingModel: (modelId) => rerankingModel(vlmo, requireId(modelId)),
    languageModel: lacking('a language model'),
    imageModel: lacking('an image model'),
  };
}

function requireId(modelId: string): MomeModelId {
  check(
    modelId === 'text' || modelId === 'image',
    'MOME_NOT_FOUND',
    `mome: expected the model text or image, got ${describe(modelId)}`,
  );
  return modelId;
}

function embeddingModel(vlmo: Encoders, modelId: MomeModelId): EmbeddingModelV3 {
  return {
    specificationVersion: 'v3',
    provider: 'mome.embedding',
    modelId,
    maxEmbeddingsPerCall: Number.POSITIVE_INFINITY, // the model cuts large calls into runs itself
    supportsParallelCalls: true,
    doEmbed: ({ values, abortSignal }: EmbeddingModelV3CallOptions) =>
      endedByReason(abortSignal, async () => ({
        embeddings: await embedAs(modelId === 'image' ? 'images' : 'texts', vlmo, values, abortSignal),
        warnings: [],
      })),
  };
}

function rerankingModel(vlmo: Encoders, modelId: MomeModelId): RerankingModelV3 {
  return {
    specificationVersion: 'v3',
    provider: 'mome.reranking',
    modelId,
    doRerank: ({ documents, query, topN, abortSignal, providerOptions }: RerankingModelV3CallOptions) =>
      endedByReason(abortSignal, async () => {
        if (topN !== undefined) checkKind('rerank', 'topN', topN, kinds.count);
        const { similarities } = takeFields('rerank', 'providerOptions.mome', providerOptions?.mome ?? {}, ownKinds);
        const ranked = await vlmo.rerank(
          modelId === 'image' ? { text: query } : { image: query },
          documents.values.map((document, index) => contentOf(document, index, modelId)),
          { ...signalOption(abortSignal), ...(similarities && { similarities }) },
        );
        return { ranking: ranked.slice(0, topN).map(({ index, score }) => ({ index, relevanceScore: score })) };
      }),
  };
}

/** The picture or text of a document: itself, or its part of that name. */
function contentOf(document: unknown, index: number, name: MomeModelId): ImageInput {
  const parts = isObject(document) ? (document as Readonly<Record<string, unknown>>) : {};
  const content = typeof document === 'string' ? document : parts[name];
  if (typeof content === 'string') return content;
  const message = `rerank: candidate ${index}: expected a text, or an object with a text as ${name}, got ${describe(isObject(document) ? content : document)}`;
  throw new MomeError('MOME_INVALID_ARGUMENT', message, { kind: 'candidate', index });
}
