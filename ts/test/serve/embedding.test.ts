/** A server as part of a program of one's own, with routes beside ours. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createServer, type MomeServer } from '../../src/serve/index.ts';
import { loadTiny } from './helpers.ts';

let app: MomeServer;
beforeAll(async () => {
  app = await createServer(await loadTiny(), { apiKeys: ['secret'] });
  const body = { type: 'object', required: ['count'], properties: { count: { type: 'integer' } } };
  const response = { 200: { type: 'object', properties: { twice: { type: 'integer' } } } };
  app.post('/twice', { schema: { summary: 'Twice a number', body, response } }, async (request) => ({
    twice: 2 * (request.body as { count: number }).count,
    hidden: 'no property of the answer',
  }));
});
afterAll(() => app.close());

const headers = { authorization: 'Bearer secret' };
const twice = (payload: object, sent: object = headers) =>
  app.inject({ method: 'POST', url: '/twice', headers: { ...sent }, payload });

it('routes that are added behind createServer are served, checked and answered by their own schemas', async () => {
  expect((await twice({ count: 4 })).json()).toEqual({ twice: 8 });
  expect((await twice({ count: 'many' })).statusCode).toBe(400);
});

it('they ask for the same keys, and stand in the description of the API beside ours', async () => {
  expect((await twice({ count: 4 }, {})).statusCode).toBe(401);
  const { paths } = (await app.inject({ url: '/openapi.json', headers })).json();
  expect(paths['/twice'].post.summary).toBe('Twice a number');
  expect(paths['/twice'].post.requestBody.content['application/json'].schema.required).toEqual(['count']);
  expect(paths['/v1/embed'].post.requestBody).toBeDefined();
});
