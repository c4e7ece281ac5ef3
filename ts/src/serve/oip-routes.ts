/** The Open Inference Protocol, version 2, over REST, with the extension for binary tensors. */
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { bytesOfStream, checked, jsonOf } from './body.ts';
import { type Context, callOf, pictureOf } from './call.ts';
import type { ServedEngine } from './engines.ts';
import { type Dialect, HttpError } from './errors.ts';
import {
  engineNamed,
  inferred,
  inferSchema,
  metadataOf,
  type OutputName,
  type OutputTensor,
  withParameters,
} from './oip.ts';
import { bytesOf, numbersAsJson } from './rows.ts';
import { tensorsOf } from './tensors.ts';
import { packageVersion } from './version.ts';

const headerLength = 'inference-header-content-length';

export function addOipRoutes(app: FastifyInstance, context: Context, isReady: () => boolean): void {
  const { engines, limits } = context;
  const infer = inferSchema(limits);
  const config = { dialect: 'oip' satisfies Dialect };
  const params = z.object({ model: z.string().max(200), version: z.string().max(20).optional() });
  const engineOf = (request: FastifyRequest) => engineNamed(engines, (request.params as z.output<typeof params>).model);

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
        const { name } = engineOf(request);
        const { json, binary } = await splitBody(request, context);
        const body = checked(infer, json);
        const { engine, options: given } = callOf(context, request, reply, { model: name });
        const options = withParameters(given, body.parameters);
        const tensors = tensorsOf(body.inputs, binary, limits.items);
        const wanted = body.outputs?.map(({ name }) => name);
        const outputs = await inferred(limits, engine, tensors, wanted, options, (text, param) =>
          pictureOf(context, request, text, param),
        );
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

async function answer(
  reply: FastifyReply,
  { name }: ServedEngine,
  id: string | undefined,
  outputs: readonly OutputTensor[],
  isBinary: (name: OutputName) => boolean,
): Promise<FastifyReply> {
  const described: string[] = [];
  for (const { name, shape, values } of outputs) {
    const output = { name, datatype: 'FP32', shape };
    described.push(
      isBinary(name)
        ? JSON.stringify({ ...output, parameters: { binary_data_size: values.byteLength } })
        : withField(output, 'data', await numbersAsJson(values)),
    );
  }
  const json = withField({ model_name: name, ...(id !== undefined && { id }) }, 'outputs', described.join(','));
  const binary = outputs.filter((output) => isBinary(output.name)).map(({ values }) => bytesOf(values));
  if (binary.length === 0) return reply.type('application/json').send(json);
  const head = Buffer.from(json);
  return reply
    .type('application/octet-stream')
    .header(headerLength, head.length)
    .send(Buffer.concat([head, ...binary]));
}

/** The JSON of an object with one more field: a list whose items are JSON already. */
const withField = (object: object, name: string, items: string): string =>
  `${JSON.stringify(object).slice(0, -1)},"${name}":[${items}]}`;
