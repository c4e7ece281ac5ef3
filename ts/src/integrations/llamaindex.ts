/** LlamaIndex: an embedding of texts and pictures, and a node post-processor that re-ranks. */
import { MultiModalEmbedding } from '@llamaindex/core/embeddings';
import type { MessageContent } from '@llamaindex/core/llms';
import type { BaseNodePostprocessor } from '@llamaindex/core/postprocessor';
import { type ImageType, MetadataMode, type NodeWithScore } from '@llamaindex/core/schema';
import type { ImageInput } from '../inference/pictures.ts';
import { type Kinds, kinds, oneOf, takeOptions } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { type Encoders, encodersKind, signalOption } from './calls.ts';

/** Options of {@link MomeEmbedding}. */
export interface MomeEmbeddingOptions {
  /** A model, a batcher of one, or a request of a batcher. It stays the caller's to dispose. */
  readonly vlmo: Encoders;
  /** Ends the calls of this object. LlamaIndex hands no signal on. */
  readonly signal?: AbortSignal;
}

const embeddingKinds: Kinds<MomeEmbeddingOptions> = { vlmo: encodersKind, signal: kinds.signal };
/** Texts or pictures of one call, between which LlamaIndex reports progress. */
const itemsAtOnce = 64;

/**
 * Embeds nodes of texts and of pictures in the same space, and queries of both kinds. Vectors have [width] numbers and length 1.
 *
 * @example
 * Settings.embedModel = new MomeEmbedding({ vlmo: await Vlmo.load() });
 * const index = await VectorStoreIndex.init({ nodes });
 */
export class MomeEmbedding extends MultiModalEmbedding {
  readonly #options: MomeEmbeddingOptions;

  /** @throws MomeError `MOME_INVALID_ARGUMENT` */
  constructor(options: MomeEmbeddingOptions) {
    super();
    this.#options = takeOptions('MomeEmbedding', options, embeddingKinds);
    check(this.#options.vlmo, 'MOME_INVALID_ARGUMENT', `MomeEmbedding: expected ${encodersKind.expected} as vlmo`);
    this.embedBatchSize = itemsAtOnce;
    // (The base class sets a property, which hides a method.)
    this.getTextEmbeddings = async (texts) => {
      const { vlmo, signal } = this.#options;
      return (await vlmo.embedTexts(texts, signalOption(signal))).toArrays();
    };
  }

  /** @throws MomeError as `Vlmo.embedTexts` */
  override async getTextEmbedding(text: string): Promise<number[]> {
    return (await this.getTextEmbeddings([text]))[0]!;
  }

  /** @throws MomeError as `Vlmo.embedImages` */
  override async getImageEmbedding(image: ImageType): Promise<number[]> {
    return (await this.getImageEmbeddings([image]))[0]!;
  }

  /** @throws MomeError as `Vlmo.embedImages` */
  override async getImageEmbeddings(images: ImageType[]): Promise<number[][]> {
    const { vlmo, signal } = this.#options;
    return (await vlmo.embedImages(images, signalOption(signal))).toArrays();
  }
}

/** Options of {@link MomeRerank}. */
export interface MomeRerankOptions extends MomeEmbeddingOptions {
  /** How many nodes are kept; default all. */
  readonly topN?: number;
  /**
   * `computed` (default): query and nodes are embedded for their cosines. `scores`: the nodes' scores are these cosines, as
   * `SimpleVectorStore` gives them for vectors of {@link MomeEmbedding}.
   */
  readonly similarities?: 'computed' | 'scores';
}

const rerankKinds: Kinds<MomeRerankOptions> = {
  ...embeddingKinds,
  topN: kinds.count,
  similarities: oneOf(['computed', 'scores']),
};

/**
 * Orders nodes by what both encoders say of them and the query: nodes of pictures by a text, nodes of texts by a picture. Their `score` is
 * that of `Vlmo.rerank`: any number, the higher the better.
 *
 * @example
 * const reranker = new MomeRerank({ vlmo, topN: 3, similarities: 'scores' });
 * const nodes = await reranker.postprocessNodes(await retriever.retrieve(query), query);
 */
export class MomeRerank implements BaseNodePostprocessor {
  readonly #options: MomeRerankOptions;

  /** @throws MomeError `MOME_INVALID_ARGUMENT` */
  constructor(options: MomeRerankOptions) {
    this.#options = takeOptions('MomeRerank', options, rerankKinds);
    check(this.#options.vlmo, 'MOME_INVALID_ARGUMENT', `MomeRerank: expected ${encodersKind.expected} as vlmo`);
  }

  /**
   * @throws MomeError as `Vlmo.rerank`; `MOME_INVALID_ARGUMENT` without a query, for nodes of both kinds together, and for a query of the
   *   same kind as the nodes
   */
  async postprocessNodes(nodes: NodeWithScore[], query?: MessageContent): Promise<NodeWithScore[]> {
    const { vlmo, signal, topN, similarities } = this.#options;
    const given = [...nodes];
    const pictures = given.map(({ node }) => ('image' in node ? (node.image as ImageInput) : undefined));
    const count = pictures.filter((picture) => picture !== undefined).length;
    check(
      count === 0 || count === given.length,
      'MOME_INVALID_ARGUMENT',
      `postprocessNodes: expected nodes of pictures or nodes of texts, got ${count} of ${given.length} with a picture`,
    );
    if (given.length === 0) return [];
    const candidates =
      count > 0 ? pictures.map((picture) => picture!) : given.map(({ node }) => node.getContent(MetadataMode.NONE));
    const ranked = await vlmo.rerank(count > 0 ? { text: textOf(query) } : { image: pictureOf(query) }, candidates, {
      ...signalOption(signal),
      ...(similarities === 'scores' && { similarities: given.map(({ score }) => score ?? Number.NaN) }),
    });
    return ranked.slice(0, topN).map(({ index, score }) => ({ node: given[index]!.node, score }));
  }
}

/** The words of a query. */
function textOf(query: MessageContent | undefined): string {
  if (typeof query === 'string') return query;
  const texts = (query ?? []).flatMap((part) => (part.type === 'text' ? [part.text] : []));
  check(texts.length > 0, 'MOME_INVALID_ARGUMENT', 'postprocessNodes: expected a text as query for nodes of pictures');
  return texts.join('\n');
}

/** The picture of a query. */
function pictureOf(query: MessageContent | undefined): string {
  const urls = (typeof query === 'string' ? [] : (query ?? [])).flatMap((part) =>
    part.type === 'image_url' ? [part.image_url.url] : [],
  );
  check(
    urls.length === 1,
    'MOME_INVALID_ARGUMENT',
    `postprocessNodes: expected one picture as query for nodes of texts, got ${urls.length}`,
  );
  return urls[0]!;
}
