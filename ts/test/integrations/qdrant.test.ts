/**
 * The program for Qdrant of docs/integrations.md with the real client, against a server that has the three routes which the program needs:
 * it keeps points in memory, and compares a query with each of them.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { expect, it, onTestFinished } from 'vitest';
import { cosineSimilarity } from '../../src/inference/quantize.ts';
import { blocksOfPage, runBlocks } from '../docs/blocks.ts';
import { bestPictures, folderWithPackages, page } from './programs.ts';

interface Point {
  readonly id: number;
  readonly vector: number[];
  readonly payload: object;
}
interface Body {
  readonly vectors?: object;
  readonly points?: readonly Point[];
  readonly query?: number[];
  readonly limit?: number;
}

it('the program for Qdrant makes a collection, fills it and asks it', { timeout: 120_000 }, async () => {
  let points: readonly Point[] = [];
  const asked: [string, Body][] = [];
  const answer = (body: Body): unknown => {
    if (body.points) points = body.points;
    if (!body.query) return true;
    const scored = points.map(({ id, vector, payload }) => ({
      id,
      version: 0,
      payload,
      score: cosineSimilarity(Float32Array.from(vector), Float32Array.from(body.query!)),
    }));
    return { points: scored.sort((a, b) => b.score - a.score).slice(0, body.limit) };
  };
  const server = createServer(async (request, response) => {
    response.setHeader('content-type', 'application/json');
    if (request.method === 'GET') return response.end(JSON.stringify({ title: 'qdrant', version: '1.18.0' }));
    const body = (await json(request)) as Body;
    asked.push([`${request.method} ${request.url}`, body]);
    return response.end(JSON.stringify({ status: 'ok', time: 0, result: answer(body) }));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  process.env.QDRANT_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  onTestFinished(() => {
    delete process.env.QDRANT_URL;
    server.closeAllConnections();
    server.close();
  });

  const blocks = (await blocksOfPage(page)).filter(({ code }) => code.includes("console.log('qdrant'"));
  const printed = await runBlocks(blocks, await folderWithPackages(), true);
  const found = printed.split('\n').filter((line) => line.startsWith('qdrant '));
  expect(found.map((line) => line.replace('qdrant pictures/', '').split(' '))).toEqual(await bestPictures());

  expect(asked.map(([route]) => route)).toEqual([
    'PUT /collections/pictures',
    'PUT /collections/pictures/points?wait=true',
    'POST /collections/pictures/points/query',
  ]);
  expect(asked[0]![1]).toEqual({ vectors: { size: 192, distance: 'Cosine' } });
  expect(points).toHaveLength(14);
  expect(points[0]).toMatchObject({ id: 0, payload: { path: expect.stringMatching(/^pictures\/.+\.svg$/) } });
  for (const { vector } of points) expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
  expect(asked[2]![1]).toMatchObject({ limit: 8, with_payload: true });
});
