/**
 * The Open Inference Protocol, version 2, whatever carries it: what models have as inputs and outputs, what a request may say, and what is
 * computed for it. REST and gRPC translate to and from this.
 */
import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import type { BatchedOptions } from '../inference/index.ts';
import { readSome, requirePicture } from './call.ts';
import type { Engines, ServedEngine } from './engines.ts';
import { HttpError } from './errors.ts';
import type { ServerLimits } from './options.ts';
import { requireItems } from './own-routes.ts';
import type { BytesTensor } from './tensors.ts';

const inputNames = ['text', 'image'] as const;
const outputNames = ['text_embedding', 'image_embedding', 'match'] as const;
export type OutputName = (typeof outputNames)[number];

export interface OutputTensor {
  readonly name: OutputName;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

const parameters = z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional();

/** A request to infer, as JSON has it; a gRPC request is checked in the same form. */
export const inferSchema = (limits: ServerLimits) =>
  z.object({
    id: z.string().max(200).optional(),
    parameters,
    inputs: z
      .array(
        z.object({
          name: z.enum(inputNames),
          shape: z.array(z.int().min(0)).min(1).max(2),
          datatype: z.string().max(40),
          parameters,
          data: z.array(z.unknown()).max(limits.items).optional(),
        }),
      )
      .min(1)
      .max(inputNames.length)
      .refine((inputs) => new Set(inputs.map(({ name }) => name)).size === inputs.length, {
        error: 'expected inputs of different names, got two of one',
      }),
    outputs: z
      .array(z.object({ name: z.enum(outputNames), parameters }))
      .max(outputNames.length)
      .optional(),
  });
export type InferRequest = z.output<ReturnType<typeof inferSchema>>;

/** The model of that name. @throws HttpError 404: unlike other protocols, this one names models on purpose */
export function engineNamed(engines: Engines, name: string): ServedEngine {
  if (!engines.has(name)) throw new HttpError(404, 'MODEL_NOT_FOUND', 'expected a model of this server, got another');
  return engines.get(name);
}

/** What a model takes and gives; -1 is any number. */
export const metadataOf = ({ name, vlmo }: ServedEngine) => ({
  name,
  platform: 'mome_vlmo',
  inputs: inputNames.map((input) => ({ name: input, datatype: 'BYTES', shape: [-1] })),
  outputs: [
    { name: 'text_embedding', datatype: 'FP32', shape: [-1, vlmo.config.width] },
    { name: 'image_embedding', datatype: 'FP32', shape: [-1, vlmo.config.width] },
    { name: 'match', datatype: 'FP32', shape: [-1] },
  ] satisfies readonly { readonly name: OutputName; readonly datatype: string; readonly shape: readonly number[] }[],
});

/** Options of a call with those of the request's parameters: `timeout` in microseconds, `priority` of which 0 and 1 are interactive. */
export function withParameters(options: BatchedOptions, given: InferRequest['parameters']): BatchedOptions {
  const { priority, timeout } = given ?? {};
  const limit = typeof timeout === 'number' && timeout > 0 ? Math.ceil(timeout / 1000) : Number.POSITIVE_INFINITY;
  const begun = performance.now();
  return {
    ...options,
    /** What is left: reading pictures takes time too. */
    get timeout() {
      return Math.max(1, Math.min(Math.ceil(begun + limit - performance.now()), options.timeout!));
    },
    ...(Number(priority) > 1 && { priority: 'bulk' }),
  };
}

/**
 * Computes the outputs that are wanted: embeddings of what is there, unless the request names others.
 *
 * @param tensors texts as text or UTF-8; pictures as text, or as the bytes of their files
 * @param pictureOfText reads a picture that is given as text
 * @throws HttpError 400, 413, 422; MomeError
 */
export async function inferred(
  limits: ServerLimits,
  { batcher }: ServedEngine,
  tensors: readonly BytesTensor[],
  wanted: readonly OutputName[] | undefined,
  options: BatchedOptions,
  pictureOfText: (text: string, param: string) => Promise<Uint8Array>,
): Promise<OutputTensor[]> {
  const elements = (name: string) => tensors.find((tensor) => tensor.name === name)?.elements ?? [];
  const texts = elements('text').map((each) => textOf(each, limits));
  const images = await readSome(elements('image'), async (each, index) => {
    const param = `image.${index}`;
    if (typeof each === 'string') return pictureOfText(each, param);
    requirePicture(each, limits, param);
    return each;
  });
  requireItems(texts.length + images.length, limits.items, 'elements');
  const names = wanted ?? [
    ...(texts.length > 0 ? ['text_embedding' as const] : []),
    ...(images.length > 0 ? ['image_embedding' as const] : []),
  ];
  return Promise.all(
    names.map(async (name): Promise<OutputTensor> => {
      switch (name) {
        case 'text_embedding':
        case 'image_embedding': {
          const { embeddings, count, width } =
            name === 'text_embedding'
              ? await batcher.embedTexts(texts, options)
              : await batcher.embedImages(images, options);
          return { name, shape: [count, width], values: embeddings };
        }
        case 'match': {
          if (texts.length !== images.length)
            throw new HttpError(
              400,
              'MOME_INVALID_ARGUMENT',
              `match: expected as many images as texts, got ${images.length} and ${texts.length}`,
            );
          const values = await batcher.match(
            texts.map((text, i) => ({ text, image: images[i]! })),
            options,
          );
          return { name, shape: [values.length], values };
        }
        default:
          return name satisfies never;
      }
    }),
  );
}

/** @throws HttpError 422 for a text that is too long, 400 for bytes that are no text */
function textOf(element: string | Buffer, { textLength }: ServerLimits): string {
  if (typeof element !== 'string' && !isUtf8(element))
    throw new HttpError(400, 'MOME_INVALID_ARGUMENT', 'text: expected UTF-8, got other bytes');
  const text = String(element);
  if (text.length > textLength)
    throw new HttpError(
      422,
      'MOME_INVALID_ARGUMENT',
      `text: expected at most ${textLength} characters, got ${text.length}`,
    );
  return text;
}
