/** The Open Inference Protocol, version 2, over REST, with the extension for binary tensors. */
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { BatchedOptions } from '../inference/vlmo.ts';
import { bytesOfStream, checked, jsonOf } from './body.ts';
import { type Context, callOf, pictureOf, readSome } from './call.ts';
import type { ServedEngine } from './engines.ts';
import { type Dialect, HttpError } from './errors.ts';
import { requireItems } from './own-routes.ts';
import { bytesOf } from './rows.ts';
import { type BytesTensor, tensorsOf } from './tensors.ts';
import { packageVersion } from './version.ts';

const headerLength = 'inference-header-content-length';
const parameters = z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional();

/** Outputs of a model, and their shapes. */
const outputNames = ['text_embedding', 'image_embedding', 'match'] as const;
type OutputName = (typeof outputNames)[number];

interface OutputTensor {
  readonly name: OutputName;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export function addOipRoutes(app: FastifyInstance, context: Context, isReady: () => boolean): void {
  const { engines, limits } = context;
  const infer = z.object({
    id: z.string().max(200).optional(),
    parameters,
    inputs: z
      .array(
        z.object({
          name: z.enum(['text', 'image']),
          shape: z.array(z.int().min(0)).min(1).max(2),
          datatype: z.string().max(40),
          parameters,
          data: z.array(z.unknown()).max(limits.items).optional(),
        }),
      )
      .min(1)
      .max(2),
    outputs: z
      .array(z.object({ name: z.enum(outputNames), parameters }))
      .max(outputNames.length)
      .optional(),
  });
  const config = { dialect: 'oip' satisfies Dialect };
  const params = z.object({ model: z.string().max(200), version: z.string().max(20).optional() });
  const engineOf = (request: FastifyRequest) => {
    const { model } = request.params as z.output<typeof params>;
    if (!engines.has(model))
      throw new HttpError(404, 'MODEL_NOT_FOUND', 'expected a model of this server, got another');
    return engines.get(model);
  };

  app.register(async (routes) => {
    routes.addContentTypeParser('application/octet-stream', async (request: FastifyRequest, stream: Readable) =>
      bytesOfStream(request, stream, limits.bodyBytes),
    );
    const summary = 'Open Inference Protocol';
    routes.get('/v2/health/live', { config, schema: { summary } }, async () => ({ live: true }));
    routes.get('/v2/health/ready', { config, schema: { summary } }, async (_, reply) =>
      reply.code(isReady() ? 200 : 503).send({ live: true, ready: isReady() }),
    );
    routes.get('/v2', { config, schema: { summary } }, async () => ({
      name: 'mome',
      version: packageVersion(),
      extensions: ['binary_tensor_data'],
    }));
    for (const path of ['/v2/models/:model', '/v2/models/:model/versions/:version']) {
      routes.get(path, { config, schema: { summary, params } }, async (request) => metadataOf(engineOf(request)));
      routes.get(`${path}/ready`, { config, schema: { summary, params } }, async (request, reply) => {
        const { name } = engineOf(request);
        return reply.code(isReady() ? 200 : 503).send({ name, ready: isReady() });
      });
      routes.post(`${path}/infer`, { config, schema: { summary, params, body: infer } }, async (request, reply) => {
        const engine = engineOf(request);
        const { json, binary } = await splitBody(request, context);
        const body = checked(infer, json);
        const { priority, timeout } = body.parameters ?? {};
        const { options } = callOf(context, request, reply, { ...(Number(priority) > 1 && { priority: 'bulk' }) });
        const limit = typeof timeout === 'number' && timeout > 0 ? Math.ceil(timeout / 1000) : options.timeout!;
        const tensors = tensorsOf(body.inputs, binary, limits.items);
        const wanted = body.outputs?.map(({ name }) => name);
        const outputs = await inferred(context, request, engine, tensors, wanted, {
          ...options,
          timeout: Math.min(limit, options.timeout!),
        });
        const isBinary = (name: OutputName) => {
          const own = body.outputs?.find((output) => output.name === name)?.parameters?.binary_data;
          return own === undefined ? body.parameters?.binary_data_output === true : own === true;
        };
        return answer(reply, engine, body.id, outputs, isBinary);
      });
    }
  });
}

/** The JSON of a request and the bytes behind it. @throws HttpError 400 */
async function splitBody(request: FastifyRequest, { limits }: Context): Promise<{ json: unknown; binary: Buffer }> {
  const { body } = request;
  if (!Buffer.isBuffer(body)) return { json: body, binary: Buffer.alloc(0) };
  const given = request.headers[headerLength];
  const length = Number(given);
  if (!/^\d{1,9}$/.test(String(given)) || length === 0 || length > body.length)
    throw new HttpError(
      400,
      'MOME_INVALID_ARGUMENT',
      `${headerLength}: expected the bytes of the JSON, within the body, got something else`,
    );
  if (length > limits.jsonBytes)
    throw new HttpError(413, 'MOME_TOO_LARGE', `expected JSON of at most ${limits.jsonBytes} bytes, got ${length}`);
  return { json: await jsonOf(body.subarray(0, length), limits), binary: body.subarray(length) };
}

const metadataOf = ({ name, vlmo }: ServedEngine) => ({
  name,
  platform: 'mome_vlmo',
  inputs: ['text', 'image'].map((input) => ({ name: input, datatype: 'BYTES', shape: [-1] })),
  outputs: [
    { name: 'text_embedding', datatype: 'FP32', shape: [-1, vlmo.config.width] },
    { name: 'image_embedding', datatype: 'FP32', shape: [-1, vlmo.config.width] },
    { name: 'match', datatype: 'FP32', shape: [-1] },
  ],
});

/** Computes the outputs that are wanted: embeddings of what is there, unless the request names others. */
async function inferred(
  context: Context,
  request: FastifyRequest,
  { batcher }: ServedEngine,
  tensors: readonly BytesTensor[],
  wanted: readonly OutputName[] | undefined,
  options: BatchedOptions,
): Promise<OutputTensor[]> {
  const { limits } = context;
  const elements = (name: string) => tensors.find((tensor) => tensor.name === name)?.elements ?? [];
  const texts = elements('text').map((each) => (typeof each === 'string' ? each : each.toString('utf8')));
  const tooLong = texts.find((text) => text.length > limits.textLength);
  if (tooLong !== undefined)
    throw new HttpError(
      422,
      'MOME_INVALID_ARGUMENT',
      `text: expected at most ${limits.textLength} characters, got ${tooLong.length}`,
    );
  const images = await readSome(elements('image'), async (each, index) =>
    typeof each === 'string' ? pictureOf(context, request, each, `image.${index}`) : each,
  );
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

function answer(
  reply: FastifyReply,
  { name }: ServedEngine,
  id: string | undefined,
  outputs: readonly OutputTensor[],
  isBinary: (name: OutputName) => boolean,
): FastifyReply {
  const described = outputs.map((output) => ({
    name: output.name,
    datatype: 'FP32',
    shape: output.shape,
    ...(isBinary(output.name)
      ? { parameters: { binary_data_size: output.values.byteLength } }
      : { data: Array.from(output.values) }),
  }));
  const json = JSON.stringify({ model_name: name, ...(id !== undefined && { id }), outputs: described });
  const binary = outputs.filter((output) => isBinary(output.name)).map(({ values }) => bytesOf(values));
  if (binary.length === 0) return reply.type('application/json').send(json);
  const head = Buffer.from(json);
  return reply
    .type('application/octet-stream')
    .header(headerLength, head.length)
    .send(Buffer.concat([head, ...binary]));
}
