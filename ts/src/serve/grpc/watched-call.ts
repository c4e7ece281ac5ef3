/** What surrounds every call of gRPC: its key, the room and the time of its message, its log line, its counts and its span. */
import { randomUUID } from 'node:crypto';
import { constants, type ServerHttp2Stream } from 'node:http2';
import { type Metadata, type ServerInterceptingCallInterface, type ServerListener, status } from '@grpc/grpc-js';
import { context as active, type TextMapGetter } from '@opentelemetry/api';
import type { FastifyBaseLogger } from 'fastify';
import { failureOf, HttpError } from '../errors.ts';
import type { HeldBytes } from '../held-bytes.ts';
import type { HostRules } from '../hosts.ts';
import type { Keys } from '../keys.ts';
import type { Metrics } from '../metrics.ts';
import type { ServerLimits } from '../options.ts';
import { RequestTrace } from '../tracing.ts';
import type { Messages } from './messages.ts';
import { type CallEnd, endOf } from './status.ts';

/** What all calls share. */
export interface Surroundings {
  readonly limits: ServerLimits;
  readonly held: HeldBytes;
  readonly hosts: HostRules;
  readonly keys: Keys | undefined;
  readonly trustProxy: boolean;
  readonly metrics: Metrics;
  readonly log: FastifyBaseLogger;
  readonly messages: Messages;
  /** Whether the server takes no calls any more. */
  readonly isClosing: () => boolean;
}

/** What a library keeps to itself and nothing else gives: the stream of a call, and whether its message is compressed. */
interface Inside {
  readonly stream: ServerHttp2Stream;
  readonly incomingEncoding: string;
}

/** Bytes that a piece of a message takes beside its content: a client may send it byte by byte. */
const pieceBytes = 160;
/** Bytes of a message that holds no inputs of a model. */
const smallMessage = 2 ** 16;
/** Milliseconds that a client has to end a call that was refused. */
const refusedTime = 2000;

/** Calls whose messages hold pictures, or as many ids as a request may have items. */
const large: ReadonlySet<string> = new Set([
  '/inference.GRPCInferenceService/ModelInfer',
  '/mome.v1.Index/Search',
  '/mome.v1.Index/Add',
  '/mome.v1.Index/Remove',
]);
/** Calls that ask for no key. */
const open: ReadonlySet<string> = new Set([
  '/inference.GRPCInferenceService/ServerLive',
  '/inference.GRPCInferenceService/ServerReady',
  '/grpc.health.v1.Health/Check',
  '/grpc.health.v1.Health/Watch',
  '/grpc.health.v1.Health/List',
]);

/** Statuses that are the fault of the server. */
const serverErrors: ReadonlySet<status> = new Set([
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.UNIMPLEMENTED,
  status.INTERNAL,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);

const getter: TextMapGetter<Metadata> = {
  get: (metadata, key) => metadata.get(key)[0]?.toString(),
  keys: (metadata) => Object.keys(metadata.getMap()),
};

export class WatchedCall {
  readonly id = randomUUID();
  trace: RequestTrace | undefined;
  /** By what the caller is known: runs are shared out evenly between clients. */
  client = '';
  readonly #path: string;
  readonly #call: ServerInterceptingCallInterface;
  readonly #inside: Inside;
  readonly #around: Surroundings;
  readonly #begun = performance.now();
  #status: Pick<CallEnd, 'code'> | undefined;
  #bytes = 0;
  #room = 0;
  #timer: NodeJS.Timeout | undefined;
  readonly #onEnd: () => void;

  constructor(
    path: string,
    isStreamed: boolean,
    call: ServerInterceptingCallInterface,
    around: Surroundings,
    onEnd: () => void,
  ) {
    this.#path = path;
    this.#call = call;
    this.#inside = call as unknown as Inside;
    this.#around = around;
    this.#onEnd = onEnd;
    // The library ends calls by itself too: past their deadline, or with a message that is too large.
    const send = call.sendStatus.bind(call);
    call.sendStatus = (object) => {
      this.#status ??= object;
      send(object);
    };
    around.held.open(this);
    this.#limitReading(isStreamed);
    const { stream } = this.#inside;
    if (stream.destroyed) process.nextTick(() => this.#end());
    else stream.once('close', () => this.#end());
  }

  /** A message has so many bytes and so much time to arrive. */
  #limitReading(isStreamed: boolean): void {
    const { limits } = this.#around;
    const { stream } = this.#inside;
    const most = this.#mostBytes;
    const time = isStreamed ? limits.timeout : limits.bodyTimeout;
    this.#timer = setTimeout(
      () => this.refuse(new HttpError(408, 'INCOMPLETE_BODY', `expected the whole message within ${time} ms`)),
      time,
    );
    stream.on('data', (piece: Buffer) => {
      if (this.#status) return;
      this.#bytes += piece.length;
      try {
        if (this.#bytes > most + 5 || this.#room > 2 * most + smallMessage)
          throw new HttpError(413, 'MOME_TOO_LARGE', `expected a message of at most ${most} bytes, got more`);
        this.#take(piece.length + pieceBytes);
      } catch (error) {
        this.refuse(error);
      }
    });
  }

  get #mostBytes(): number {
    return large.has(this.#path) ? this.#around.limits.bodyBytes : smallMessage;
  }

  /** @throws HttpError 429 */
  #take(bytes: number): void {
    this.#room += bytes;
    this.#around.held.add(this, bytes);
  }

  /** What the library tells of the call. */
  get listener(): ServerListener {
    return {
      onReceiveMetadata: (metadata, next) => {
        if (this.#status) return;
        this.#beginTrace(metadata);
        try {
          this.#admit(metadata);
        } catch (error) {
          return this.refuse(error);
        }
        calls.set(metadata, this);
        if (this.trace) active.with(this.trace.context, () => next(metadata));
        else next(metadata);
      },
      onReceiveHalfClose: (next) => {
        clearTimeout(this.#timer);
        next();
      },
    };
  }

  /** The answer is on its way: from now on the client has so long to take it. */
  answering(): void {
    clearTimeout(this.#timer);
    const { writeTimeout } = this.#around.limits;
    this.#timer = setTimeout(() => this.#cut(), writeTimeout);
  }

  #cut(): void {
    this.#inside.stream.close(constants.NGHTTP2_CANCEL);
  }

  /** Ends the call with an error. */
  refuse(error: unknown): void {
    this.#call.sendStatus(this.failed(error));
    // Whoever goes on sending has not seen it.
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#cut(), refusedTime);
  }

  /** The status of an error, which is logged. */
  failed(error: unknown): CallEnd {
    const { log, messages } = this.#around;
    const failure = failureOf(error);
    this.trace?.failed(error, failure);
    const about = { reqId: this.id, ...this.trace?.fields };
    if (failure.status === 500) log.error({ ...about, err: error }, 'request failed');
    else log.info({ ...about, code: failure.code, reason: failure.message }, 'request refused');
    const object = endOf(failure, messages);
    object.metadata.set('x-request-id', this.id);
    return object;
  }

  #beginTrace(metadata: Metadata): void {
    const [service, method] = this.#path.slice(1).split('/') as [string, string];
    this.trace = RequestTrace.begin(this.#path.slice(1), this.#begun, metadata, getter, () => ({
      'rpc.system': 'grpc',
      'rpc.service': service,
      'rpc.method': method,
      'client.address': this.#call.getConnectionInfo().remoteAddress ?? '',
    }));
  }

  /** @throws HttpError 401, 421, 429, 503 */
  #admit(metadata: Metadata): void {
    const { hosts, keys, trustProxy, isClosing } = this.#around;
    if (isClosing()) throw new HttpError(503, 'DRAINING', 'the server is ending');
    const one = (name: string) => metadata.get(name)[0]?.toString();
    const { localAddress, remoteAddress: address = '' } = this.#call.getConnectionInfo();
    hosts.require(this.#call.getHost(), localAddress);
    this.client = (trustProxy && one('x-forwarded-for')?.split(',')[0]?.trim()) || address;
    if (keys && !open.has(this.#path)) this.client = keys.clientOf(one('authorization'), one('x-api-key'));
    if (this.#inside.incomingEncoding !== 'identity') this.#take(this.#mostBytes); // as much as may come out of it
  }

  #end(): void {
    clearTimeout(this.#timer);
    const { held, metrics, log } = this.#around;
    held.close(this);
    const isLate = Number(this.#call.getDeadline()) <= Date.now();
    const code = this.#status?.code ?? (isLate ? status.DEADLINE_EXCEEDED : status.CANCELLED);
    const name = status[code]!;
    const milliseconds = performance.now() - this.#begun;
    metrics.request(this.#path, name, milliseconds);
    log.info(
      {
        reqId: this.id,
        ...this.trace?.fields,
        method: 'gRPC',
        route: this.#path,
        status: name,
        milliseconds: Math.round(milliseconds),
        bytes: this.#bytes,
      },
      'request',
    );
    this.trace?.end({ 'rpc.grpc.status_code': code }, serverErrors.has(code));
    this.#onEnd();
  }
}

const calls = new WeakMap<Metadata, WatchedCall>();

/** What surrounds the call that has this metadata. */
export const watchedCall = (metadata: Metadata): WatchedCall => calls.get(metadata)!;
