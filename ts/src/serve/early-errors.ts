/** Answers to what never becomes a request of a route: bytes that are no HTTP, heads that do not arrive, addresses that cannot be read. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { answerError, errorBody, failureOf, HttpError } from './errors.ts';

/** Answers an address that is no part of a URL, or that has a part of more characters than any route takes. */
export function answerBadUrl(_: Error, request: FastifyRequest, reply: FastifyReply): void {
  answerError(
    new HttpError(400, 'BAD_URL', 'expected the URL of a route, got one that cannot be read'),
    request,
    reply,
  );
}

/**
 * Answers on a connection whose bytes are no request, and ends it. Errors that are none of HTTP are not answered: before the handshake of TLS
 * is done nothing can be sent, and an answer would wait for a client that stays silent.
 */
export function answerClientError({ code = '' }: Error & { readonly code?: string }, socket: Socket): void {
  if (socket.destroyed) return;
  if (!code.startsWith('HPE_') && !code.startsWith('ERR_HTTP_')) {
    socket.destroy();
    return;
  }
  const failure = failureOf(errorOf(code));
  const body = JSON.stringify(errorBody('own', failure));
  const head = `HTTP/1.1 ${failure.status} ${STATUS_CODES[failure.status]}`;
  const headers = `connection: close\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}`;
  if (socket.writable) socket.write(`${head}\r\n${headers}\r\n\r\n${body}`);
  socket.destroySoon();
}

/** @param code of an error of Node */
function errorOf(code: string): HttpError {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new HttpError(408, 'INCOMPLETE_BODY', 'expected the whole request in time, it did not arrive');
    case 'HPE_HEADER_OVERFLOW':
      return new HttpError(431, 'MOME_TOO_LARGE', 'expected a shorter URL and shorter headers, got too many bytes');
    default:
      return new HttpError(400, 'BAD_REQUEST', 'expected a request of HTTP, got other bytes');
  }
}
