/** Servers of the tiny model that listen at a free port. */
import { createConnection } from 'node:net';
import sharp from 'sharp';
import { afterAll } from 'vitest';
import { Vlmo } from '../../src/inference/index.ts';
import { createServer, type MomeServer, type ServerOptions } from '../../src/serve/index.ts';
import { testImage, tinyModel } from '../helpers.ts';

const running: MomeServer[] = [];
const loaded: Vlmo[] = [];
afterAll(async () => {
  await Promise.all(running.splice(0).map((server) => server.close()));
  await Promise.all(loaded.splice(0).map((model) => model.dispose()));
});

export async function loadTiny(): Promise<Vlmo> {
  const model = await Vlmo.load(await tinyModel());
  loaded.push(model);
  return model;
}

/** Starts a server. @returns it and its address */
export async function started(models: Vlmo | Record<string, Vlmo>, options?: ServerOptions) {
  const server = await createServer(models, options);
  running.push(server);
  const url = await server.listen({ port: 0, host: '127.0.0.1' });
  return { server, url };
}

/** A picture file. */
export async function png(seed: number, size = 40): Promise<Buffer> {
  const image = testImage(seed, size);
  return sharp(image.data, { raw: image }).png().toBuffer();
}

export const dataUrl = (file: Buffer): string => `data:image/png;base64,${file.toString('base64')}`;

// biome-ignore lint/suspicious/noExplicitAny: bodies are of every kind
type Body = any;

/** Sends JSON. @returns status, headers and parsed body */
export async function post(
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; headers: Headers; body: Body }> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' || body instanceof Uint8Array ? (body as string) : JSON.stringify(body),
  });
  const text = await response.text();
  let parsed: unknown = text;
  try {
    parsed = JSON.parse(text);
  } catch {}
  return { status: response.status, headers: response.headers, body: parsed };
}

/** Writes bytes to the server and gives what comes back until the connection ends or the time is over. */
export function raw(
  url: string,
  bytes: string | Buffer,
  milliseconds = 5000,
): Promise<{ text: string; ended: boolean }> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = createConnection({ host: hostname, port: Number(port) }, () => socket.write(bytes));
    let text = '';
    const done = (ended: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ text, ended });
    };
    const timer = setTimeout(() => done(false), milliseconds);
    socket.on('data', (data) => {
      text += data.toString('latin1');
    });
    socket.on('close', () => done(true));
    socket.on('error', () => done(true));
  });
}
