/** Connections of a server that is about to end. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';

/**
 * Ends connections that would hold up the end of the server. Those without a request go when it closes: clients open them ahead, or have
 * sent a part of a head, and they count as neither idle nor done. Those whose request is not there as a whole `patience` milliseconds later go
 * then: a server that closes no longer looks whether bodies take too long.
 */
export function endUnusedConnections(app: FastifyInstance, isTls: boolean, patience: number): void {
  /** Each connection with its request that is not answered. */
  const open = new Map<Socket, IncomingMessage | undefined>();
  const end = (isMeant: (request: IncomingMessage | undefined) => boolean) => {
    for (const [socket, request] of open) if (isMeant(request)) socket.destroy();
  };
  app.server
    .on(isTls ? 'secureConnection' : 'connection', (socket: Socket) => {
      open.set(socket, undefined);
      socket.once('close', () => open.delete(socket));
    })
    .on('request', (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request;
      open.set(socket, request);
      response.once('close', () => {
        if (open.get(socket) === request) open.set(socket, undefined);
      });
    });
  app.addHook('preClose', async () => {
    end((request) => request === undefined);
    setTimeout(() => end((request) => !request?.complete), patience).unref();
  });
}
