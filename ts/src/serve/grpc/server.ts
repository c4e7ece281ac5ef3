/** The server of gRPC: it listens, bounds connections, and ends with the rest of the server. */
import { createServer, type Server as Listener, type Socket } from 'node:net';
import {
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerUnaryCall,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { loadSync, type ServiceDefinition } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { HealthImplementation, protoPath as healthProto } from 'grpc-health-check';
import type { BatchedOptions, Priority } from '../../inference/index.ts';
import type { Context } from '../call.ts';
import type { ServedEngine } from '../engines.ts';
import { HttpError } from '../errors.ts';
import type { ServerOptions } from '../options.ts';
import { indexCalls } from './index-service.ts';
import { indexProtoFile, Messages, protoFile, protoFolder } from './messages.ts';
import { type Call, calls } from './service.ts';
import { type Surroundings, WatchedCall, watchedCall } from './watched-call.ts';

/** What the server of gRPC shares with that of HTTP. */
export type Shared = Pick<Surroundings, 'hosts' | 'keys' | 'metrics' | 'log'>;

const service = 'inference.GRPCInferenceService';
const indexService = 'mome.v1.Index';
/** Milliseconds between two looks whether a silent client is still there, and that it has to answer. */
const keepaliveTime = 30_000;
const keepaliveTimeout = 10_000;
/** Milliseconds after which a connection without calls is closed: clients open it again when they need it. */
const idleTime = 300_000;
/** Bytes with which every connection begins. */
const prefaceBytes = 24;

export class GrpcServer {
  readonly #server: Server;
  readonly #health = new HealthImplementation({ '': 'SERVING', [service]: 'SERVING', [indexService]: 'SERVING' });
  readonly #listener: Listener;
  readonly #sockets = new Set<Socket>();
  /** Calls without an end of their own. */
  readonly #streamed = new Set<WatchedCall>();
  #isReady = true;
  #isClosing = false;

  constructor(context: Context, isReady: () => boolean, options: ServerOptions, shared: Shared) {
    const { limits, held } = context;
    const messages = new Messages(limits);
    const around: Surroundings = {
      ...shared,
      limits,
      held,
      messages,
      trustProxy: options.trustProxy ?? false,
      isClosing: () => this.#isClosing,
    };
    this.#server = new Server({
      interceptors: [this.#watch(around)],
      'grpc.max_receive_message_length': limits.bodyBytes,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': limits.streams,
      'grpc.keepalive_time_ms': keepaliveTime,
      'grpc.keepalive_timeout_ms': keepaliveTimeout,
      'grpc.max_connection_idle_ms': idleTime,
      'grpc.enable_channelz': 0,
    });
    const described = loadSync([protoFile, indexProtoFile], { includeDirs: [protoFolder()], keepCase: true });
    const add = (name: string, byName: Readonly<Record<string, Call>>) =>
      this.#addService(name, described[name] as ServiceDefinition, byName, messages, limits.timeout);
    add(service, calls(context, isReady));
    add(indexService, indexCalls(context));
    this.#health.addToServer(this.#server);
    new ReflectionService({ ...described, ...loadSync(healthProto, { keepCase: true }) }).addToServer(this.#server);
    this.#listener = this.#listenerOf(options, limits.connections, limits.headTimeout);
  }

  /** Surrounds every call with what `WatchedCall` does. */
  #watch(around: Surroundings): ServerInterceptor {
    return ({ path, requestStream, responseStream }, call) => {
      const watched = new WatchedCall(path, requestStream, call, around, () => this.#streamed.delete(watched));
      if (requestStream || responseStream) this.#streamed.add(watched);
      return new ServerInterceptingCall(call, {
        start: (next) => next(watched.listener),
        sendMessage: (message, next) => {
          if (!responseStream) watched.answering();
          next(message);
        },
      });
    };
  }

  #addService(
    service: string,
    definition: ServiceDefinition,
    byName: Readonly<Record<string, Call>>,
    messages: Messages,
    timeout: number,
  ): void {
    const messageOf = (name: string) => `${service.slice(0, service.lastIndexOf('.'))}.${name}`;
    const same = (bytes: Buffer) => bytes;
    const methods = Object.entries(definition);
    const untouched = methods.map(([name, method]) => [
      name,
      { ...method, requestDeserialize: same, responseSerialize: same },
    ]);
    const implementation: UntypedServiceImplementation = {};
    for (const [name] of methods) {
      const work = async (call: ServerUnaryCall<Buffer, Buffer>) => {
        const request = messages.decode(messageOf(`${name}Request`), call.request);
        const answer = await byName[name]!(request, (engine) => optionsOf(call, engine, timeout));
        return messages.encode(messageOf(`${name}Response`), answer);
      };
      implementation[name] = (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
        work(call).then(
          (answer) => done(null, answer),
          (error: unknown) => done(watchedCall(call.metadata).failed(error)),
        );
      };
    }
    this.#server.addService(Object.fromEntries(untouched), implementation);
  }

  /** Takes connections and hands them to the server of gRPC, which bounds neither their number nor how they begin. */
  #listenerOf({ tls }: ServerOptions, connections: number, headTimeout: number): Listener {
    const injector = this.#server.createConnectionInjector(
      tls
        ? ServerCredentials.createSsl(null, [
            { cert_chain: Buffer.from(tls.cert as string), private_key: Buffer.from(tls.key as string) },
          ])
        : ServerCredentials.createInsecure(),
    );
    const listener = createServer({ noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      const silent = setTimeout(() => {
        if (socket.bytesRead < prefaceBytes) socket.destroy();
      }, headTimeout);
      socket.on('error', () => {});
      socket.once('close', () => {
        clearTimeout(silent);
        this.#sockets.delete(socket);
      });
      injector.injectConnection(socket);
    });
    listener.maxConnections = connections;
    return listener;
  }

  /** @returns the address, with the port that was free where 0 was asked for */
  async listen(host: string, port: number): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.#listener.once('error', reject).listen({ host, port }, () => {
        this.#listener.off('error', reject);
        resolve();
      });
    });
    const address = this.#listener.address() as {
      readonly address: string;
      readonly port: number;
      readonly family: string;
    };
    return `${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`;
  }

  /** Tells those who watch the health, once, that calls will no longer be taken. */
  setNotReady(): void {
    if (!this.#isReady) return;
    this.#isReady = false;
    for (const name of ['', service, indexService]) this.#health.setStatus(name, 'NOT_SERVING');
  }

  /** Takes nothing new, answers what is under way, and closes. */
  async close(): Promise<void> {
    this.setNotReady();
    this.#isClosing = true;
    const closed = new Promise<void>((resolve) => {
      if (this.#listener.listening) this.#listener.close(() => resolve());
      else resolve();
    });
    for (const call of this.#streamed) call.refuse(new HttpError(503, 'DRAINING', 'the server is ending'));
    await new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    for (const socket of this.#sockets) socket.destroy(); // which have never spoken gRPC
    await closed;
  }
}

/** Options of the calls of a model that a call of gRPC makes: they end with it, and not after its deadline. */
function optionsOf(call: ServerUnaryCall<Buffer, Buffer>, { name }: ServedEngine, timeout: number): BatchedOptions {
  const stop = new AbortController();
  const left = () => stop.abort(new Error('the client has left'));
  if (call.cancelled) left();
  else call.once('cancelled', left);
  const rest = Math.ceil(Number(call.getDeadline()) - Date.now());
  if (rest <= 0) throw new HttpError(504, 'MOME_DEADLINE', 'expected to be done before the deadline, it had passed');
  const { client, trace } = watchedCall(call.metadata);
  const priority: Priority = call.metadata.get('x-priority')[0] === 'bulk' ? 'bulk' : 'interactive';
  return {
    signal: stop.signal,
    timeout: Math.min(timeout, rest),
    priority,
    client,
    ...(trace && { onStage: trace.stagesOf(name) }),
  };
}
