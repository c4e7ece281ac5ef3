/** Ranking of documents, texts or pictures, for every dialect of re-ranking. */
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { isDataUrl } from '../image/data-url.ts';
import type { BatchedOptions } from '../inference/index.ts';
import { type Context, pictureOf, pictureSchema, readSome, textSchema } from './call.ts';
import type { ServedEngine } from './engines.ts';
import { HttpError } from './errors.ts';
import { isFileName } from './form.ts';
import type { ServerLimits } from './options.ts';
import { requireItems } from './own-routes.ts';

/** A document, and what its score is. */
export interface RankedDocument {
  readonly index: number;
  /** From 0 to 1, in the order of `score`. */
  readonly relevance: number;
  readonly score: number;
  readonly similarity: number;
  /** What the matching head says; null where a text is compared with a text, or a picture with a picture. */
  readonly match: number | null;
}

/** A text, or a picture as an object; a `data:image/` URL is a picture as well. */
export const documentSchema = (limits: ServerLimits) =>
  z.union([
    z.string().max(Math.max(limits.textLength, 2 * limits.pictureBytes)),
    z.object({ text: textSchema(limits) }),
    z.object({ image: pictureSchema }),
    z.object({ image_url: z.union([pictureSchema, z.object({ url: pictureSchema })]) }),
  ]);
export type DocumentField = z.output<ReturnType<typeof documentSchema>>;

/** A document as text or as bytes of a picture. */
type Part = { readonly text: string } | { readonly image: Uint8Array };

/** @throws HttpError 413, 422 */
export async function partOf(
  context: Context,
  request: FastifyRequest,
  value: DocumentField,
  param: string,
): Promise<Part> {
  const { limits } = context;
  if (typeof value === 'string') {
    const isPicture = isDataUrl(value.slice(0, 64)) || isFileName(value);
    if (isPicture) return { image: await pictureOf(context, request, value, param) };
    if (value.length > limits.textLength)
      throw new HttpError(
        422,
        'MOME_INVALID_ARGUMENT',
        `${param}: expected a text of at most ${limits.textLength} characters, got ${value.length}`,
        param,
      );
    return { text: value };
  }
  if ('text' in value) return { text: value.text };
  const image =
    'image' in value ? value.image : typeof value.image_url === 'string' ? value.image_url : value.image_url.url;
  return { image: await pictureOf(context, request, image, param) };
}

/**
 * Orders documents by what they have to do with a query. Between a text and pictures, or a picture and texts, both encoders judge, as in
 * `Vlmo.rerank`; between texts, or between pictures, the cosine of their embeddings does.
 *
 * @returns best first; equal ones in the order of the request
 * @throws HttpError 413, 422; MomeError
 */
export async function ranked(
  context: Context,
  request: FastifyRequest,
  engine: ServedEngine,
  query: DocumentField,
  documents: readonly DocumentField[],
  options: BatchedOptions,
): Promise<RankedDocument[]> {
  requireItems(documents.length, context.limits.items, 'documents');
  const of = await partOf(context, request, query, 'query');
  const parts = await readSome(documents, (each, index) => partOf(context, request, each, `documents.${index}`));
  const texts = parts.flatMap((part) => ('text' in part ? [part.text] : []));
  const images = parts.flatMap((part) => ('image' in part ? [part.image] : []));
  if (texts.length > 0 && images.length > 0)
    throw new HttpError(
      422,
      'MOME_INVALID_ARGUMENT',
      'documents: expected texts alone or pictures alone, got both',
      'documents',
    );
  const isText = 'text' in of;
  if (isText !== texts.length > 0) {
    const order = await engine.batcher.rerank(of, isText ? images : texts, options);
    return order.map((each) => ({ ...each, relevance: 1 / (1 + Math.exp(-each.score)) }));
  }
  const { embeddings, width } = isText
    ? await engine.batcher.embedTexts([of.text, ...texts], options)
    : await engine.batcher.embedImages([(of as { readonly image: Uint8Array }).image, ...images], options);
  return parts
    .map((_, index): RankedDocument => {
      let similarity = 0;
      for (let i = 0; i < width; i++) similarity += embeddings[i]! * embeddings[(index + 1) * width + i]!;
      const relevance = Math.min(1, Math.max(0, (1 + similarity) / 2));
      return { index, relevance, score: similarity, similarity, match: null };
    })
    .sort((a, b) => b.score - a.score || a.index - b.index);
}
