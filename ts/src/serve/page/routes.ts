/** The web page at `/`: its files, the pictures of the index, and what it is told of the server. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MomeError } from '../../runtime/errors.ts';
import { packageRoot } from '../../runtime/package-files.ts';
import type { Engines } from '../engines.ts';
import { HttpError } from '../errors.ts';
import type { ServerLimits } from '../options.ts';
import { somePictures } from '../served-index.ts';
import { packageVersion } from '../version.ts';
import type { LiveFigures } from './live.ts';
import type { LiveAnswer, PageState } from './messages.ts';
import { IndexPictures, type PictureSize } from './pictures.ts';

/** What the page needs of its server. */
export interface PageContext {
  readonly engines: Engines;
  readonly limits: ServerLimits;
  readonly live: LiveFigures;
  readonly isReady: () => boolean;
  /** Whether it is served over TLS. */
  readonly isSecure: boolean;
}

/** Files of the page by their addresses; they hold nothing of the server and need no key. */
const files: Readonly<Record<string, { readonly type: string; readonly parts: readonly string[] }>> = {
  '/': { type: 'text/html; charset=utf-8', parts: ['index.html'] },
  '/page/page.js': { type: 'text/javascript; charset=utf-8', parts: ['page.js'] },
  '/page/page.css': {
    type: 'text/css; charset=utf-8',
    parts: ['uplot/dist/uPlot.min.css', 'page.css', 'fields.css', 'views.css', 'figures.css'],
  },
  '/page/icon.svg': { type: 'image/svg+xml', parts: ['icon.svg'] },
};

/** Pictures that are shown before anything is looked for. */
const shownFirst = 20;

/** Notes on routes of the page. */
export interface PageConfig {
  /** It asks for no key. */
  readonly isOpen?: boolean;
  /** It comes every second: logs name it at level debug alone. */
  readonly isQuiet?: boolean;
}

/**
 * Nothing but the server itself may be loaded or called, no script or style may stand in the document, and nobody may frame it. `blob:`
 * are pictures that the page has read with its key, and those that were dropped.
 */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join(';');
/** Over plain HTTP browsers ignore these headers and complain, except at the machine itself. */
const ofSecureOrigins = ['cross-origin-opener-policy', 'origin-agent-cluster', 'strict-transport-security'];

/** Adds the page. @throws MomeError `MOME_NOT_FOUND` where the package lacks its files */
export async function addPage(app: FastifyInstance, context: PageContext): Promise<void> {
  const { live, isSecure } = context;
  const schema = { hide: true };
  for (const [url, { type, parts }] of Object.entries(files)) {
    const content = Buffer.concat(await Promise.all(parts.map(contentOf)));
    const etag = `"${createHash('sha256').update(content).digest('base64url').slice(0, 27)}"`;
    const config: PageConfig = { isOpen: true };
    app.get(url, { schema, config }, async (request, reply) => {
      reply.header('etag', etag).header('cache-control', 'no-cache');
      reply.header('content-security-policy', contentSecurityPolicy);
      if (!isSecure) for (const name of ofSecureOrigins) reply.removeHeader(name);
      if (request.headers['if-none-match'] === etag) return reply.code(304).send();
      return reply.type(type).send(content);
    });
  }
  const unlogged = { schema, config: { isQuiet: true } satisfies PageConfig };
  app.get('/page/state', unlogged, async (_, reply) =>
    reply.header('cache-control', 'no-store').send(await stateOf(context)),
  );
  app.get('/page/live', unlogged, async (request, reply) => {
    const { since = '0' } = request.query as { since?: unknown };
    if (typeof since !== 'string' || !/^\d{1,12}$/.test(since))
      throw new HttpError(
        422,
        'MOME_INVALID_ARGUMENT',
        'since: expected the number of a second, got something else',
        'since',
      );
    const answer: LiveAnswer = {
      stamp: stampOf(context),
      isReady: context.isReady(),
      ...live.since(Number(since)),
    };
    return reply.header('cache-control', 'no-store').send(answer);
  });
  addPictures(app, context.engines, unlogged);
}

function addPictures(app: FastifyInstance, engines: Engines, options: object): void {
  let pictures: IndexPictures | undefined;
  const send = (size: PictureSize) => async (request: FastifyRequest, reply: FastifyReply) => {
    const { number } = request.params as { number: string };
    const { first } = engines;
    const { index } = first;
    if (!index?.pictures)
      throw new HttpError(404, 'PICTURE_NOT_FOUND', 'expected a server with an index of files, got one without');
    if (pictures?.source !== index.pictures) pictures = new IndexPictures(index.pictures); // it was loaded again
    const bytes = await pictures.get(number, size).finally(engines.hold(first));
    return reply.type('image/webp').header('cache-control', 'private, max-age=60').send(bytes);
  };
  app.get('/page/thumbnails/:number', options, send('small'));
  app.get('/page/pictures/:number', options, send('large'));
}

const stampOf = ({ engines }: PageContext): string => engines.all.map(({ name, since }) => `${name} ${since}`).join();

async function stateOf(context: PageContext): Promise<PageState> {
  const { engines, limits } = context;
  const { first } = engines;
  const pictures = first.index?.pictures;
  const some = pictures && (await somePictures(pictures, shownFirst).finally(engines.hold(first)));
  return {
    version: packageVersion(),
    stamp: stampOf(context),
    models: engines.all.map(({ name, vlmo }) => {
      const { imageSize, width, layers, maxTextLength } = vlmo.config;
      const { arenaBytes, weightBytes } = vlmo.memory();
      const { device, dtype, target } = vlmo;
      const sizes = { imageSize, width, layers, maxTextLength, memoryBytes: arenaBytes + weightBytes };
      const isCalibrated = vlmo.matchCalibration !== undefined;
      return { name, device, dtype, target, abilities: [...vlmo.abilities], isCalibrated, ...sizes };
    }),
    ...(pictures && some && { index: { pictures: pictures.count, some } }),
    ...(engines.first.index?.kind === 'store' && { hasStore: true }),
    limits: { pictureBytes: limits.pictureBytes, textLength: limits.textLength },
  };
}

async function contentOf(name: string): Promise<Buffer> {
  const { resolve } = createRequire(join(packageRoot(), 'package.json'));
  const path = name.startsWith('uplot/') ? resolve(name) : join(packageRoot(), 'dist', 'page', name);
  try {
    return await readFile(path);
  } catch (error) {
    throw new MomeError('MOME_NOT_FOUND', `createServer: expected a file of the page, got none at ${path}`, {
      cause: error,
    });
  }
}
