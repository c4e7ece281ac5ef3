/** LangChain.js: embeddings of texts and pictures, and a document compressor that re-ranks. */
import { Document, type DocumentInterface } from '@langchain/core/documents';
import { Embeddings as BaseEmbeddings, type EmbeddingsParams } from '@langchain/core/embeddings';
import { BaseDocumentCompressor } from '@langchain/core/retrievers/document_compressors';
import type { ImageInput } from '../inference/pictures.ts';
import { type Kinds, kinds, oneOf, takeOptions } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { type Encoders, embedAs, encodersKind, signalOption } from './calls.ts';

/** Options of {@link MomeEmbeddings}. */
export interface MomeEmbeddingsOptions {
  /** A model, a batcher of one, or a request of a batcher. It stays the caller's to dispose. */
  readonly vlmo: Encoders;
  /** Whether contents of documents are texts (default), or paths, `file:` or `data:` URLs of pictures. */
  readonly documents?: 'texts' | 'images';
  /** The same for queries. */
  readonly queries?: 'texts' | 'images';
  /** Ends the calls of this object. LangChain hands no signal on: make an object for each request. */
  readonly signal?: AbortSignal;
}

const kindOfValues = oneOf(['texts', 'images']);
const embeddingsKinds: Kinds<MomeEmbeddingsOptions> = {
  vlmo: encodersKind,
  documents: kindOfValues,
  queries: kindOfValues,
  signal: kinds.signal,
};

/**
 * Embeddings for the vector stores of LangChain: texts, pictures, or documents of one kind that queries of the other find. Vectors have
 * [width] numbers and length 1.
 *
 * @example
 * const embeddings = new MomeEmbeddings({ vlmo: await Vlmo.load(), documents: 'images' });
 * const store = await MemoryVectorStore.fromTexts(['cat.png', 'train.svg'], {}, embeddings);
 */
export class MomeEmbeddings extends BaseEmbeddings {
  readonly #options: MomeEmbeddingsOptions;

  /** @throws MomeError `MOME_INVALID_ARGUMENT` */
  constructor(options: MomeEmbeddingsOptions) {
    super({} satisfies EmbeddingsParams);
    this.#options = takeOptions('MomeEmbeddings', options, embeddingsKinds);
    check(this.#options.vlmo, 'MOME_INVALID_ARGUMENT', `MomeEmbeddings: expected ${encodersKind.expected} as vlmo`);
  }

  /** @throws MomeError as `Vlmo.embedTexts` or `Vlmo.embedImages` */
  override async embedQuery(query: string): Promise<number[]> {
    const { queries = 'texts', vlmo, signal } = this.#options;
    return (await embedAs(queries, vlmo, [query], signal))[0]!;
  }

  /** @throws MomeError as `Vlmo.embedTexts` or `Vlmo.embedImages` */
  override async embedDocuments(documents: string[]): Promise<number[][]> {
    const { documents: kind = 'texts', vlmo, signal } = this.#options;
    return embedAs(kind, vlmo, documents, signal);
  }

  /** Embeds pictures of any form, for `addVectors` of a store whose documents have other contents. @throws MomeError as `Vlmo.embedImages` */
  async embedImages(images: readonly ImageInput[]): Promise<number[][]> {
    const { vlmo, signal } = this.#options;
    return (await vlmo.embedImages(images, signalOption(signal))).toArrays();
  }
}

/** Options of {@link MomeRerank}. */
export interface MomeRerankOptions extends Pick<MomeEmbeddingsOptions, 'vlmo' | 'queries' | 'signal'> {
  /** How many documents are kept; default all. */
  readonly topN?: number;
  /** The picture of a document for queries that are texts, and its text for those that are pictures. Default: its `pageContent`. */
  readonly contentOf?: (document: DocumentInterface) => ImageInput;
}

const rerankKinds: Kinds<MomeRerankOptions> = {
  vlmo: encodersKind,
  queries: kindOfValues,
  signal: kinds.signal,
  topN: kinds.count,
  contentOf: kinds.callback,
};

/**
 * Orders documents by what both encoders say of them and the query. Documents are new ones, whose metadata also have the `relevanceScore`
 * they are ordered by, the `similarity` (cosine) and the `match`, as `Vlmo.rerank` gives them.
 *
 * @example
 * const compressor = new MomeRerank({ vlmo, topN: 3 });
 * const retriever = new ContextualCompressionRetriever({ baseCompressor: compressor, baseRetriever: store.asRetriever(32) });
 */
export class MomeRerank extends BaseDocumentCompressor {
  readonly #options: MomeRerankOptions;

  /** @throws MomeError `MOME_INVALID_ARGUMENT` */
  constructor(options: MomeRerankOptions) {
    super();
    this.#options = takeOptions('MomeRerank', options, rerankKinds);
    check(this.#options.vlmo, 'MOME_INVALID_ARGUMENT', `MomeRerank: expected ${encodersKind.expected} as vlmo`);
  }

  /** @throws MomeError as `Vlmo.rerank` */
  override async compressDocuments(documents: DocumentInterface[], query: string): Promise<DocumentInterface[]> {
    const { vlmo, queries = 'texts', topN, signal, contentOf = ({ pageContent }) => pageContent } = this.#options;
    const given = [...documents];
    const ranked = await vlmo.rerank(
      queries === 'texts' ? { text: query } : { image: query },
      given.map((document) => contentOf(document)),
      signalOption(signal),
    );
    return ranked.slice(0, topN).map(({ index, score, similarity, match }) => {
      const { pageContent, metadata, id } = given[index]!;
      return new Document({
        pageContent,
        metadata: { ...metadata, relevanceScore: score, similarity, match },
        ...(id !== undefined && { id }),
      });
    });
  }
}
