/** Errors as HTTP knows them: status, headers, and a body in the words that the clients of a route read. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ErrorCode, MomeError, OverloadedError } from '../runtime/errors.ts';
import { traceOf } from './tracing.ts';

/** An error that is about the request and not about a model. */
export class HttpError extends Error {
  readonly statusCode: number;
  /** Machine-readable, in capitals. */
  readonly code: string;
  /** The field of the request that it is about. */
  readonly param: string | undefined;

  constructor(statusCode: number, code: string, message: string, param?: string, options?: ErrorOptions) {
    super(message, options);
    this.statusCode = statusCode;
    this.code = code;
    this.param = param;
  }
}

/** The protocol whose clients read the errors of a route: each words them in its own way. */
export type Dialect = 'own' | 'tei' | 'oip' | 'cohere';

const statusOf: Readonly<Record<ErrorCode, number>> = {
  MOME_INVALID_ARGUMENT: 422,
  MOME_INVALID_SHAPE: 422,
  MOME_INVALID_FILE: 422,
  MOME_INVALID_IMAGE: 422,
  MOME_INVALID_CONFIG: 500,
  MOME_NOT_FOUND: 422,
  MOME_UNSUPPORTED: 422,
  MOME_TOO_LARGE: 413,
  MOME_OUT_OF_MEMORY: 503,
  MOME_NON_FINITE: 422,
  MOME_ABORTED: 503,
  MOME_DISPOSED: 503,
  MOME_DEVICE_UNAVAILABLE: 503,
  MOME_NATIVE_LOAD: 500,
  MOME_PROCESS_LOST: 500,
  MOME_IO: 500,
  MOME_INTERNAL: 500,
  MOME_OVERLOADED: 429,
  MOME_DEADLINE: 504,
};

/** What is answered to an error. */
export interface Failure {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly param: string | null;
  readonly retryAfterMs?: number;
}

/** Bytes of a refused body that are read and thrown away. */
const mostDiscarded = 2 ** 26;
/** Milliseconds after which a client may come again where nothing better is known. */
const retryLater = 1000;

/** What an error means for a client. Of defects of the server nothing is told but that they happened. */
export function failureOf(error: unknown): Failure {
  if (error instanceof HttpError)
    return {
      status: error.statusCode,
      code: error.code,
      message: error.message,
      param: error.param ?? null,
      ...(error.statusCode === 503 || error.statusCode === 429 ? { retryAfterMs: retryLater } : {}),
    };
  if (error instanceof MomeError) {
    const status = statusOf[error.code];
    const param =
      error.kind === undefined ? null : `${error.kind}${error.index === undefined ? '' : ` ${error.index}`}`;
    if (status === 500)
      return { status, code: error.code, message: 'the server failed; its log says why', param: null };
    const retryAfterMs =
      error instanceof OverloadedError ? error.retryAfterMs : status === 503 ? retryLater : undefined;
    return { status, code: error.code, message: error.message, param, ...(retryAfterMs && { retryAfterMs }) };
  }
  const { statusCode, code, message } = error as { statusCode?: unknown; code?: unknown; message?: unknown };
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500)
    return {
      status: statusCode,
      code: codeOfStatus(statusCode, code),
      message:
        code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE'
          ? 'expected a body of type application/json, or multipart/form-data where a route takes forms, got another type'
          : String(message),
      param: null,
    };
  if (statusCode === 503)
    return { status: 503, code: 'DRAINING', message: 'the server is ending', param: null, retryAfterMs: retryLater };
  return { status: 500, code: 'MOME_INTERNAL', message: 'the server failed; its log says why', param: null };
}

function codeOfStatus(status: number, code: unknown): string {
  if (status === 413) return 'MOME_TOO_LARGE';
  if (status === 415) return 'UNSUPPORTED_MEDIA_TYPE';
  return typeof code === 'string' ? code : 'BAD_REQUEST';
}

const typeOf = (status: number): string => {
  if (status === 401) return 'authentication_error';
  if (status === 404) return 'not_found_error';
  if (status === 429) return 'rate_limit_error';
  return status < 500 ? 'invalid_request_error' : 'server_error';
};

/** The body of an error. */
export function errorBody(dialect: Dialect, failure: Failure): object {
  const { status, code, message, param } = failure;
  switch (dialect) {
    case 'own':
      return { error: { message, type: typeOf(status), param, code } };
    case 'tei': {
      const type = status === 429 ? 'Overloaded' : status >= 500 ? 'Backend' : 'Validation';
      return { error: message, error_type: type, code };
    }
    case 'oip':
      return { error: message, code };
    case 'cohere':
      return { message, code };
    default:
      return dialect satisfies never;
  }
}

const dialects = new WeakMap<FastifyRequest, Dialect>();

/** Notes who reads the errors of a request, where the route alone does not tell. */
export const setDialect = (request: FastifyRequest, dialect: Dialect): void => void dialects.set(request, dialect);

/** Answers an error. */
export function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const failure = failureOf(error);
  traceOf(request)?.failed(error, failure);
  if (failure.status >= 500 && failure.status !== 503 && failure.status !== 504)
    request.log.error({ err: error }, 'request failed');
  else {
    const cause = error instanceof HttpError && error.cause instanceof Error ? { cause: error.cause.message } : {};
    request.log.info({ code: failure.code, reason: failure.message, ...cause }, 'request refused');
  }
  if (reply.sent || reply.raw.destroyed) return;
  if (failure.retryAfterMs !== undefined) {
    reply.header('retry-after', Math.ceil(failure.retryAfterMs / 1000));
    reply.header('retry-after-ms', failure.retryAfterMs);
  }
  // A client that is still sending reads its answer only if the rest is taken from it; without end that is not done.
  const declared = Number(request.headers['content-length'] ?? Number.POSITIVE_INFINITY);
  if (failure.status === 413) {
    if (declared > mostDiscarded) reply.header('connection', 'close');
    else reply.removeHeader('connection'); // which Fastify has closed
  }
  if (failure.status === 401) reply.header('www-authenticate', 'Bearer');
  const ofRoute = (request.routeOptions.config as { dialect?: Dialect } | undefined)?.dialect ?? 'own';
  const dialect = dialects.get(request) ?? ofRoute;
  reply
    .code(failure.status)
    .type('application/json')
    .send(JSON.stringify(errorBody(dialect, failure)));
}
