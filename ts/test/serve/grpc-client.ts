/** A client of the Open Inference Protocol, made from the protocol file as anyone would. */
import { type Client, credentials, loadPackageDefinition, Metadata, type ServiceError } from '@grpc/grpc-js';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';
import { afterAll } from 'vitest';
import { protoFile, protoFolder } from '../../src/serve/grpc/messages.ts';

const clients: Client[] = [];
afterAll(() => {
  for (const client of clients.splice(0)) client.close();
});

// biome-ignore lint/suspicious/noExplicitAny: messages are of every kind
export type Answer = any;
type Method = (...given: unknown[]) => { cancel(): void };

export interface Call {
  readonly metadata?: Readonly<Record<string, string>>;
  /** Milliseconds. */
  readonly deadline?: number;
  readonly signal?: AbortSignal;
}

/** @param options of the channel */
export function clientOf(address: string, service = 'inference.GRPCInferenceService', more: Channel = {}) {
  const definition =
    more.definition ??
    loadSync(protoFile, { includeDirs: [protoFolder()], keepCase: true, longs: Number, defaults: true });
  let found: Answer = loadPackageDefinition(definition);
  for (const part of service.split('.')) found = found[part];
  const client = new found(address, more.credentials ?? credentials.createInsecure(), more.options) as Client;
  clients.push(client);
  const call = (name: string, request: object, { metadata = {}, deadline, signal }: Call = {}) =>
    new Promise<Answer>((resolve, reject) => {
      const sent = new Metadata();
      for (const [key, value] of Object.entries(metadata)) sent.set(key, value);
      const method = (client as unknown as Record<string, Method>)[name]!.bind(client);
      const options = deadline === undefined ? {} : { deadline: Date.now() + deadline };
      const under = method(request, sent, options, (error: ServiceError | null, answer: Answer) =>
        error ? reject(error) : resolve(answer),
      );
      signal?.addEventListener('abort', () => under.cancel());
    });
  /** The error of a call that has to fail. */
  const failed = async (name: string, request: object, options?: Call): Promise<ServiceError> =>
    call(name, request, options).then(
      (answer) => {
        throw new Error(`expected an error, got ${JSON.stringify(answer).slice(0, 200)}`);
      },
      (error: ServiceError) => error,
    );
  return { client, call, failed };
}

export interface Channel {
  readonly definition?: PackageDefinition;
  readonly credentials?: ReturnType<typeof credentials.createInsecure>;
  readonly options?: object;
}

/** A request of one input as typed contents. */
export const texts = (...given: string[]) => ({
  model_name: 'mome',
  inputs: [
    tensor(
      'text',
      given.map((each) => Buffer.from(each)),
    ),
  ],
});

export const tensor = (name: string, elements: readonly Buffer[]) => ({
  name,
  datatype: 'BYTES',
  shape: [elements.length],
  contents: { bytes_contents: elements },
});

/** Elements with their lengths in front. */
export const packed = (...elements: readonly Buffer[]): Buffer =>
  Buffer.concat(
    elements.flatMap((element) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(element.length);
      return [length, element];
    }),
  );

/** The numbers of an answer in packed form. */
export const floats = (bytes: Buffer): number[] =>
  Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
