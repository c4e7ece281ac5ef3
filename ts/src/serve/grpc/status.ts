/** Errors as gRPC knows them: a status, and trailers that say when to come again. */
import { toUSVString } from 'node:util';
import { Metadata, status } from '@grpc/grpc-js';
import type { Failure } from '../errors.ts';
import type { Messages } from './messages.ts';

/** What a call ends with. */
export interface CallEnd {
  readonly code: status;
  readonly details: string;
  readonly metadata: Metadata;
}

/** The status of an error. */
export function statusOf({ status: http, code }: Failure): status {
  if (code === 'MOME_UNSUPPORTED') return status.UNIMPLEMENTED;
  switch (http) {
    case 401:
      return status.UNAUTHENTICATED;
    case 403:
    case 421:
      return status.PERMISSION_DENIED;
    case 404:
      return status.NOT_FOUND;
    case 408:
    case 504:
      return status.DEADLINE_EXCEEDED;
    case 429:
      return status.RESOURCE_EXHAUSTED;
    case 503:
      return status.UNAVAILABLE;
    default:
      return http >= 500 ? status.INTERNAL : status.INVALID_ARGUMENT;
  }
}

/**
 * The end of a call that failed. Trailers: `mome-code`; `grpc-status-details-bin` with `google.rpc.ErrorInfo` and, where the same call may
 * succeed later, `google.rpc.RetryInfo`; then also `grpc-retry-pushback-ms`, which the retries of gRPC clients obey.
 */
export function endOf(failure: Failure, messages: Messages): CallEnd {
  const code = statusOf(failure);
  const details = toUSVString(failure.message);
  const { retryAfterMs } = failure;
  const metadata = new Metadata();
  metadata.set('mome-code', failure.code);
  if (retryAfterMs !== undefined) metadata.set('grpc-retry-pushback-ms', `${Math.ceil(retryAfterMs)}`);
  const packed = (type: string, message: object) => ({
    type_url: `type.googleapis.com/${type}`,
    value: messages.encode(type, message),
  });
  const about = packed('google.rpc.ErrorInfo', {
    reason: failure.code,
    domain: 'mome',
    ...(failure.param !== null && { metadata: { param: toUSVString(failure.param) } }),
  });
  const retry = (milliseconds: number) =>
    packed('google.rpc.RetryInfo', {
      retry_delay: { seconds: Math.floor(milliseconds / 1000), nanos: Math.round((milliseconds % 1000) * 1e6) },
    });
  const detailed = {
    code,
    message: details,
    details: retryAfterMs === undefined ? [about] : [about, retry(retryAfterMs)],
  };
  metadata.set('grpc-status-details-bin', messages.encode('google.rpc.Status', detailed));
  return { code, details, metadata };
}
