/** Connections of a server that is about to end. */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';

/**
 * Ends connections on which no request has ever come when the server closes. Clients open them ahead; as they count as neither idle nor done,
 * the server would wait for them.
 */
export function endUnusedConnections(app: FastifyInstance, isTls: boolean): void {
  const unused = new Set<Socket>();
  app.server
    .on(isTls ? 'secureConnection' : 'connection', (socket: Socket) => {
      unused.add(socket);
      socket.once('close', () => unused.delete(socket));
    })
    .on('request', ({ socket }: IncomingMessage) => unused.delete(socket));
  app.addHook('preClose', async () => {
    for (const socket of unused) socket.destroy();
  });
}
