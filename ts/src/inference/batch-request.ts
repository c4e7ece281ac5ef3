/** The queue of a batcher for one request that makes several calls. */
import { deadlinePassed } from './batch-end.ts';
import type { BatchedOptions, Batcher, RequestOptions } from './batcher.ts';
import type { Embeddings } from './embeddings.ts';
import type { ImageInput } from './pictures.ts';
import type { RerankQuery } from './rerank.ts';
import type { CallOptions, Ranked, RerankOptions } from './results.ts';

/** Calls of one request, made by {@link Batcher.request}: with its client and priority, and until its deadline. */
export class BatcherRequest {
  readonly #batcher: Batcher;
  readonly #options: RequestOptions;
  readonly #deadline: number;

  /** @internal */
  constructor(batcher: Batcher, options: RequestOptions) {
    this.#batcher = batcher;
    this.#options = options;
    this.#deadline = performance.now() + (options.timeout ?? Number.POSITIVE_INFINITY);
  }

  get fingerprint(): string {
    return this.#batcher.fingerprint;
  }

  /** As `Batcher.embedTexts`. */
  async embedTexts(texts: readonly string[], options?: Pick<CallOptions, 'signal'>): Promise<Embeddings> {
    return this.#batcher.embedTexts(texts, this.#with('embedTexts', options));
  }

  /** As `Batcher.embedImages`. */
  async embedImages(images: readonly ImageInput[], options?: Pick<CallOptions, 'signal'>): Promise<Embeddings> {
    return this.#batcher.embedImages(images, this.#with('embedImages', options));
  }

  /** As `Batcher.rerank`. */
  async rerank(
    query: RerankQuery,
    candidates: readonly ImageInput[],
    options?: Pick<RerankOptions, 'signal' | 'similarities' | 'rule'>,
  ): Promise<Ranked[]> {
    return this.#batcher.rerank(query, candidates, this.#with('rerank', options));
  }

  /** The options of a call with what is left of the time. */
  #with<T extends object>(where: string, options: T | undefined): T & BatchedOptions {
    const { timeout, ...common } = this.#options;
    const left = Math.ceil(this.#deadline - performance.now());
    if (timeout !== undefined && left <= 0) throw deadlinePassed(where, timeout);
    return { ...(options as T), ...common, ...(timeout !== undefined && { timeout: left }) };
  }
}
