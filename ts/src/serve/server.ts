/** The server: limits, keys, logs, metrics, health and the end, around the routes of each protocol. */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import cors from '@fastify/cors';
import multipart from '@fastify/multipart';
import swagger from '@fastify/swagger';
import fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerOptions,
  LogController,
} from 'fastify';
import { createJsonSchemaTransform } from 'fastify-type-provider-zod';
import type { Vlmo } from '../inference/vlmo.ts';
import type { SearchIndex } from '../search/index.ts';
import { addJsonParser } from './body.ts';
import { setClient } from './call.ts';
import { endUnusedConnections } from './connections.ts';
import { Engines } from './engines.ts';
import { answerError, HttpError } from './errors.ts';
import { HeldBytes } from './held-bytes.ts';
import { Metrics } from './metrics.ts';
import { addOipRoutes } from './oip-routes.ts';
import { addOpenAiRoutes } from './openai-routes.ts';
import { defaultLimits, type ServerLimits, type ServerOptions } from './options.ts';
import { addOwnRoutes } from './own-routes.ts';
import { addRerankRoutes } from './rerank-routes.ts';
import { securityHeaders } from './security-headers.ts';
import { PictureFetcher } from './url-fetch.ts';
import { UrlRules } from './url-rules.ts';
import { packageVersion } from './version.ts';

/** A server that does not listen yet. */
export interface MomeServer extends FastifyInstance {
  /**
   * Replaces a model while requests go on, and with it the index of one that has an index (default: the present one). Resolves when all
   * requests of the old one are done: then it may be disposed.
   *
   * @throws MomeError `MOME_UNSUPPORTED` for an index of another model; then the old ones go on
   */
  replaceEngine(name: string, vlmo: Vlmo, index?: SearchIndex): Promise<void>;
  /**
   * Ends the server: it says that it is not ready, waits `delay` milliseconds for whoever shares out requests to notice, answers what is
   * under way, and closes. Its models are the caller's to dispose.
   */
  drain(delay?: number): Promise<void>;
}

/** Milliseconds between two looks at connections that are too slow. */
const connectionsChecked = 1000;
/** Milliseconds that a connection lives beyond the time of a request. */
const idleTime = 15_000;
/** Routes that ask for no key. */
const open: ReadonlySet<string> = new Set([
  '/health',
  '/health/live',
  '/health/ready',
  '/v2/health/live',
  '/v2/health/ready',
]);

/**
 * Makes a server of a model, or of several by name. It is a Fastify instance: add routes of your own, then `listen`.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT`, `MOME_DISPOSED`
 * @example
 * const app = await createServer(await Vlmo.load(), { apiKeys: ['secret'] });
 * await app.listen({ port: 8080 });
 */
export async function createServer(
  models: Vlmo | Readonly<Record<string, Vlmo>>,
  options: ServerOptions = {},
): Promise<MomeServer> {
  const limits: ServerLimits = { ...defaultLimits, ...options.limits };
  let isDraining = false;
  const metrics = new Metrics(() => engines.all);
  const engines = new Engines(models, { ...options, ...limits }, (engine, run) => metrics.run(engine, run));
  const app = fastify(fastifyOptions(options, limits)) as unknown as FastifyInstance;
  app.server.maxConnections = limits.connections;
  endUnusedConnections(app, options.tls !== undefined, limits.headTimeout);
  app.setValidatorCompiler(() => (value) => ({ value })); // bodies are checked where they are read: forms as well
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  app.setErrorHandler(answerError);
  app.setNotFoundHandler((request, reply) => {
    const url = request.url.split('?', 1)[0]!;
    const allowed = (['GET', 'POST'] as const).filter((method) => app.findRoute({ method, url }) !== null);
    const wrongMethod = `expected the method ${allowed.join(' or ')} for this route, got ${request.method}`;
    if (allowed.length > 0) reply.header('allow', allowed.join(', '));
    const error =
      allowed.length > 0
        ? new HttpError(405, 'METHOD_NOT_ALLOWED', wrongMethod)
        : new HttpError(404, 'ROUTE_NOT_FOUND', 'expected a route of this server, got another');
    answerError(error, request, reply);
  });
  addJsonParser(app, limits);
  // First of all, so that refusals have these headers too.
  const safe = await securityHeaders();
  app.addHook('onRequest', (_, reply, done) => {
    reply.headers(safe);
    done();
  });
  if (options.corsOrigins?.length) await app.register(cors, { origin: [...options.corsOrigins] });
  const held = new HeldBytes(limits.bodyBytesTogether);
  watchRequests(app, limits, metrics, held);
  if (options.apiKeys !== undefined) requireKeys(app, options.apiKeys);
  await app.register(multipart);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'mome', description: 'Image-text inference with VLMo', version: packageVersion() },
    },
    transform: createJsonSchemaTransform({}) as never,
  });
  const { allowUrls = [], network } = options;
  const fetcher = allowUrls.length > 0 ? new PictureFetcher(new UrlRules(allowUrls, network), limits) : undefined;
  const context = { engines, limits, held, fetcher };
  // Made once, before the first request: that takes a tenth of a second.
  let description = '';
  app.register(async (routes) => {
    addOwnRoutes(routes, context);
    addRerankRoutes(routes, context);
    addOpenAiRoutes(routes, context);
    addOipRoutes(routes, context, () => !isDraining);
    addStateRoutes(
      routes,
      metrics,
      () => !isDraining,
      () => description,
    );
  });
  app.addHook('onClose', async () => {
    await engines.close();
    await fetcher?.close();
    metrics.close();
  });
  await app.ready();
  description = JSON.stringify(app.swagger());
  return Object.assign(app, {
    replaceEngine: (name: string, vlmo: Vlmo, index?: SearchIndex) => engines.replace(name, vlmo, index),
    drain: async (delay = 0) => {
      isDraining = true;
      if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
      await app.close();
    },
  }) as unknown as MomeServer;
}

function fastifyOptions(options: ServerOptions, limits: ServerLimits): FastifyServerOptions {
  const timing = { headersTimeout: limits.headTimeout, connectionsCheckingInterval: connectionsChecked };
  const { tls } = options;
  return {
    ...(tls ? { https: { ...tls, ...timing, handshakeTimeout: limits.headTimeout } } : { http: timing }),
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.bodyTimeout,
    connectionTimeout: limits.timeout + idleTime,
    keepAliveTimeout: idleTime,
    forceCloseConnections: 'idle',
    logger: options.logger ?? false,
    logController: new LogController({ disableRequestLogging: true }),
    trustProxy: options.trustProxy ?? false,
    genReqId: () => randomUUID(),
    requestIdHeader: false,
    onProtoPoisoning: 'remove',
    return503OnClosing: true,
  } as FastifyServerOptions;
}

/** Bounds, logs and counts requests; ends those whose clients do not take their answers. */
function watchRequests(app: FastifyInstance, limits: ServerLimits, metrics: Metrics, held: HeldBytes): void {
  app.addHook('onRequest', async (request, reply) => {
    const begun = performance.now();
    setClient(request, request.ip);
    const { headers } = request;
    const declared = Number(headers['content-length'] ?? (headers['transfer-encoding'] ? limits.bodyBytes : 0));
    held.open(request);
    reply.header('x-request-id', request.id);
    reply.raw.once('close', () => {
      const bytes = held.close(request);
      const status = reply.raw.writableFinished ? reply.statusCode : 499;
      const route = request.routeOptions.url ?? 'none';
      const milliseconds = performance.now() - begun;
      metrics.request(route, status, milliseconds);
      request.log.info(
        { method: request.method, route, status, milliseconds: Math.round(milliseconds), bytes },
        'request',
      );
    });
    if (declared > limits.bodyBytes)
      throw new HttpError(
        413,
        'MOME_TOO_LARGE',
        `expected a body of at most ${limits.bodyBytes} bytes, got ${declared}`,
      );
    held.add(request, declared);
    if (headers['content-encoding'] !== undefined && headers['content-encoding'] !== 'identity')
      throw new HttpError(
        415,
        'UNSUPPORTED_MEDIA_TYPE',
        'expected a body without content-encoding, got one with; nothing is unpacked',
      );
  });
  app.addHook('onSend', async (_, reply) => {
    const slow = setTimeout(() => reply.raw.destroy(), limits.writeTimeout);
    reply.raw.once('close', () => clearTimeout(slow));
  });
}

/** Refuses requests without one of the keys. All are compared in constant time: as hashes, which have one length. */
function requireKeys(app: FastifyInstance, keys: readonly string[]): void {
  const hashOf = (key: string) => createHash('sha256').update(key).digest();
  const known = keys.map(hashOf);
  app.addHook('onRequest', async (request) => {
    if (open.has(request.routeOptions.url ?? '') || request.method === 'OPTIONS') return;
    const given = keyOf(request);
    const hash = hashOf(given);
    let isKnown = false;
    for (const each of known) isKnown = timingSafeEqual(each, hash) || isKnown;
    if (given === '' || !isKnown)
      throw new HttpError(401, 'UNAUTHORIZED', 'expected a key of this server, got none or another');
    setClient(request, hash.toString('base64'));
  });
}

function keyOf({ headers }: FastifyRequest): string {
  const bearer = /^bearer (.+)$/i.exec(headers.authorization ?? '')?.[1];
  const own = headers['x-api-key'];
  return bearer?.trim() ?? (typeof own === 'string' ? own : '');
}

/** Health, metrics and the description of the API. */
function addStateRoutes(
  app: FastifyInstance,
  metrics: Metrics,
  isReady: () => boolean,
  description: () => string,
): void {
  const ready = async (_: FastifyRequest, reply: FastifyReply) => {
    if (isReady()) return reply.send({ ready: true });
    return reply.code(503).header('retry-after', 1).send({ ready: false });
  };
  app.get('/health/live', { schema: { summary: 'Whether the process runs' } }, async () => ({ live: true }));
  app.get('/health/ready', { schema: { summary: 'Whether requests are taken' } }, ready);
  app.get('/health', { schema: { summary: 'As /health/ready' } }, ready);
  app.get('/metrics', { schema: { hide: true } }, async (_, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  );
  app.get('/openapi.json', { schema: { hide: true } }, async (_, reply) =>
    reply.type('application/json').send(description()),
  );
}
