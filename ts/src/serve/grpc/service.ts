/** The six calls of `inference.GRPCInferenceService`: between messages of gRPC and the Open Inference Protocol as `oip.ts` has it. */
import type { BatchedOptions } from '../../inference/index.ts';
import { checked } from '../body.ts';
import type { Context } from '../call.ts';
import type { ServedEngine } from '../engines.ts';
import { HttpError } from '../errors.ts';
import { engineNamed, inferred, inferSchema, metadataOf, type OutputTensor, withParameters } from '../oip.ts';
import { bytesOf } from '../rows.ts';
import { type BytesTensor, type TensorHead, tensorOf } from '../tensors.ts';
import { packageVersion } from '../version.ts';
import type { Message } from './messages.ts';

/** Does a call. @param options of what it asks of a model */
export type Call = (request: Message, options: (engine: ServedEngine) => BatchedOptions) => object | Promise<object>;

/** The calls by their names. */
export function calls({ engines, limits }: Context, isReady: () => boolean): Readonly<Record<string, Call>> {
  const schema = inferSchema(limits);
  return {
    ServerLive: () => ({ live: true }),
    ServerReady: () => ({ ready: isReady() }),
    ModelReady: ({ name }) => {
      engineNamed(engines, name);
      return { ready: isReady() };
    },
    ServerMetadata: () => ({ name: 'mome', version: packageVersion(), extensions: [] }),
    ModelMetadata: ({ name }) => metadataOf(engineNamed(engines, name)),
    ModelInfer: async (request, options) => {
      const engine = engineNamed(engines, request.model_name);
      const release = engines.hold(engine); // until the end of the call, whatever takes its place
      try {
        const raw = request.raw_input_contents as readonly Buffer[];
        const body = checked(schema, bodyOf(request));
        const tensors = tensorsOf(request, body.inputs, limits.items);
        const wanted = body.outputs?.map(({ name }) => name);
        const given = withParameters(options(engine), body.parameters);
        const outputs = await inferred(limits, engine, tensors, wanted, given, noText);
        // The protocol has no mixture of both forms. A client that packs its inputs reads packed outputs.
        const isRaw = body.parameters?.binary_data_output ?? raw.length > 0;
        return {
          model_name: engine.name,
          id: request.id,
          outputs: outputs.map((output) => described(output, isRaw === true)),
          ...(isRaw === true && { raw_output_contents: outputs.map(({ values }) => bytesOf(values)) }),
        };
      } finally {
        release();
      }
    },
  };
}

/** Elements are bytes in this protocol: of a picture its file. */
const noText = () => Promise.reject(wrong('image: expected bytes, got text'));

/** A request as JSON would have it. Empty texts and lists are those that were left out. */
function bodyOf({ id, parameters, inputs, outputs }: Message): object {
  return {
    ...(id !== '' && { id }),
    parameters: parametersOf(parameters),
    inputs: inputs.map((input: Message) => ({
      name: input.name,
      shape: input.shape,
      datatype: input.datatype,
      parameters: parametersOf(input.parameters),
      ...(input.contents && { data: input.contents.bytes_contents }),
    })),
    ...(outputs.length > 0 && {
      outputs: outputs.map((output: Message) => ({ name: output.name, parameters: parametersOf(output.parameters) })),
    }),
  };
}

const parametersOf = (parameters: Readonly<Record<string, Message>>) =>
  Object.fromEntries(
    Object.entries(parameters).flatMap(([name, { parameter_choice: choice, ...value }]) =>
      choice === undefined ? [] : [[name, value[choice as string]]],
    ),
  );

/** The inputs of a request, in one form or the other. @throws HttpError 400 */
function tensorsOf(
  { inputs, raw_input_contents: raw }: Message,
  heads: readonly TensorHead[],
  most: number,
): BytesTensor[] {
  for (const { name, contents } of inputs as readonly Message[]) {
    if (raw.length > 0 && contents) throw wrong(`${name}: expected raw_input_contents or contents, got both`);
    const lists = Object.entries<{ readonly length: number }>(contents ?? {});
    const other = lists.find(([list, { length }]) => list !== 'bytes_contents' && length > 0);
    if (other) throw wrong(`${name}: expected bytes_contents, got ${other[0]}`);
  }
  if (raw.length > 0 && raw.length !== heads.length)
    throw wrong(`raw_input_contents: expected one for each of ${heads.length} inputs, got ${raw.length}`);
  return heads.map((head, i) => tensorOf(head, raw.length > 0 ? raw[i] : undefined, most));
}

const described = ({ name, shape, values }: OutputTensor, isRaw: boolean) => ({
  name,
  datatype: 'FP32',
  shape,
  ...(!isRaw && { contents: { fp32_contents: bytesOf(values) } }),
});

const wrong = (message: string) => new HttpError(400, 'MOME_INVALID_ARGUMENT', message);
