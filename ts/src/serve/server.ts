/** The server: limits, keys, logs, metrics, health and the end, around the routes of each protocol. */
import { randomUUID } from 'node:crypto';
import cors from '@fastify/cors';
import multipart from '@fastify/multipart';
import swagger from '@fastify/swagger';
import { context as active, defaultTextMapGetter } from '@opentelemetry/api';
import fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerOptions,
  LogController,
} from 'fastify';
import { createJsonSchemaTransform } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { Vlmo } from '../inference/index.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { addJsonParser } from './body.ts';
import { setClient } from './call.ts';
import { endUnusedConnections } from './connections.ts';
import { answerBadUrl, answerClientError } from './early-errors.ts';
import { Engines } from './engines.ts';
import { answerError, HttpError } from './errors.ts';
import type { GrpcServer } from './grpc/server.ts';
import { HeldBytes } from './held-bytes.ts';
import { HostRules } from './hosts.ts';
import { addIndexRoutes } from './index-routes.ts';
import { Keys } from './keys.ts';
import { Metrics } from './metrics.ts';
import { addOipRoutes } from './oip-routes.ts';
import { addOpenAiRoutes } from './openai-routes.ts';
import { defaultLimits, mostJsonBytes, type ServerLimits, type ServerOptions } from './options.ts';
import { addOwnRoutes } from './own-routes.ts';
import { LiveFigures } from './page/live.ts';
import { addPage, type PageConfig } from './page/routes.ts';
import { addRerankRoutes } from './rerank-routes.ts';
import { securityHeaders } from './security-headers.ts';
import type { ServableIndex } from './served-index.ts';
import { RequestTrace, setTrace, traceOf } from './tracing.ts';
import { PictureFetcher } from './url-fetch.ts';
import { UrlRules } from './url-rules.ts';
import { packageVersion } from './version.ts';

/** A server that does not listen yet. */
export interface MomeServer extends FastifyInstance {
  /**
   * Listens for gRPC as well, with the models, keys, certificate and limits of this server, until it closes.
   *
   * @param options `port` 0 takes a free one; `host` is 127.0.0.1 by default
   * @returns the address, such as `127.0.0.1:8081`
   * @throws MomeError `MOME_INVALID_ARGUMENT` where it listens already, `MOME_DISPOSED` where it has ended, `MOME_IO` where the port is taken
   */
  listenGrpc(options: { readonly host?: string; readonly port: number }): Promise<string>;
  /**
   * Replaces a model while requests go on, and with it the index of one that has an index (default: the present one). Resolves when all
   * requests of the old one are done: then it may be disposed.
   *
   * @throws MomeError `MOME_UNSUPPORTED` for an index of another model; then the old ones go on
   */
  replaceEngine(name: string, vlmo: Vlmo, index?: ServableIndex): Promise<void>;
  /**
   * Ends the server: it says that it is not ready, waits `delay` milliseconds for load balancers to notice, answers what is under
   * way, and closes. Its models are the caller's to dispose.
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
 * Makes a server of a model, or of several by name. It is a Fastify instance: add routes of your own, then `listen`. They ask for the same
 * keys, and stand in the description of the API.
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
  check(
    limits.jsonBytes <= mostJsonBytes,
    'MOME_INVALID_ARGUMENT',
    `createServer: expected JSON of at most ${mostJsonBytes} bytes (--max-json), got a limit of ${limits.jsonBytes}; large pictures go into forms`,
  );
  let isDraining = false;
  const metrics = new Metrics(() => engines.all);
  const engines = new Engines(models, { ...options, ...limits }, (engine, run) => {
    metrics.run(engine, run);
    live?.run(run);
  });
  const live = options.page ? new LiveFigures(() => engines.all) : undefined;
  const app = fastify(fastifyOptions(options, limits)) as unknown as FastifyInstance;
  app.server.maxConnections = limits.connections;
  endUnusedConnections(app, options.tls !== undefined, limits.headTimeout);
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
  traceRequests(app);
  // First of all, so that refusals have these headers too.
  const safe = await securityHeaders(options.tls !== undefined);
  const hosts = new HostRules(options.allowHosts ?? [], options.apiKeys !== undefined);
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(safe);
    hosts.require(
      request.raw.headers.host ?? request.raw.headers[':authority']?.toString(),
      request.socket.localAddress,
    );
  });
  if (options.corsOrigins?.length) await app.register(cors, { origin: [...options.corsOrigins] });
  const held = new HeldBytes(limits.bodyBytesTogether);
  watchRequests(app, limits, metrics, held, live);
  const keys = options.apiKeys && new Keys(options.apiKeys);
  if (keys) requireKeys(app, keys);
  await app.register(multipart);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'mome', description: 'Image-text inference with VLMo', version: packageVersion() },
    },
    transform: described as never,
  });
  const { allowUrls = [], network } = options;
  const fetcher = allowUrls.length > 0 ? new PictureFetcher(new UrlRules(allowUrls, network), limits) : undefined;
  const { corsOrigins = [], isWritable = false } = options;
  const context = { engines, limits, held, fetcher, isWritable, corsOrigins };
  // Made once, before the first request: that takes a tenth of a second.
  let description = '';
  await app.register(async (routes) => {
    routes.setValidatorCompiler(() => (value) => ({ value })); // bodies are checked where they are read: forms as well
    routes.setSerializerCompiler(() => (value) => JSON.stringify(value));
    addOwnRoutes(routes, context);
    if (engines.first.index) addIndexRoutes(routes, context);
    addRerankRoutes(routes, context);
    addOpenAiRoutes(routes, context);
    addOipRoutes(routes, context, () => !isDraining);
    if (live) {
      const isSecure = options.tls !== undefined;
      await addPage(routes, { engines, limits, live, isReady: () => !isDraining, isSecure });
    }
    addStateRoutes(
      routes,
      metrics,
      () => !isDraining,
      () => description,
    );
  });
  let grpc: GrpcServer | undefined;
  let isClosed = false;
  app.addHook('onClose', async () => {
    isClosed = true;
    await grpc?.close();
    await engines.close();
    await fetcher?.close();
    metrics.close();
    live?.close();
  });
  app.addHook('onReady', async () => {
    description = JSON.stringify(app.swagger());
  });
  return Object.assign(app, {
    replaceEngine: (name: string, vlmo: Vlmo, index?: ServableIndex) => engines.replace(name, vlmo, index),
    listenGrpc: async ({ host = '127.0.0.1', port }: { readonly host?: string; readonly port: number }) => {
      const { GrpcServer } = await import('./grpc/server.ts'); // its libraries are loaded where they are used alone
      check(!isClosed, 'MOME_DISPOSED', 'listenGrpc: expected a server that is open, got one that was closed');
      check(!grpc, 'MOME_INVALID_ARGUMENT', 'listenGrpc: expected a first call, got one of a server that listens');
      const fresh = new GrpcServer(context, () => !isDraining, options, { hosts, keys, metrics, log: app.log });
      grpc = fresh;
      try {
        return await fresh.listen(host, port);
      } catch (error) {
        grpc = undefined;
        await fresh.close();
        const reason = error instanceof Error ? error.message : String(error);
        throw new MomeError('MOME_IO', `listenGrpc: expected a port to listen at, got ${reason}`, { cause: error });
      }
    },
    drain: async (delay = 0) => {
      isDraining = true;
      grpc?.setNotReady();
      if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
      await app.close();
    },
  }) as unknown as MomeServer;
}

const describedByZod = createJsonSchemaTransform({});

/** The description of a route: ours have schemas of zod, those of a program's own routes are JSON schemas as they stand. */
const described = (route: Parameters<typeof describedByZod>[0]) =>
  Object.values(route.schema ?? {}).some((part) => part instanceof z.ZodType)
    ? describedByZod(route)
    : { schema: route.schema, url: route.url };

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
    frameworkErrors: answerBadUrl,
    clientErrorHandler: answerClientError,
  } as FastifyServerOptions;
}

/** Traces requests where the program has registered an SDK of OpenTelemetry; their log lines then carry the trace. */
function traceRequests(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    const { method, headers, protocol, ip, raw } = request;
    const route = request.routeOptions.url;
    const name = route === undefined ? method : `${method} ${route}`;
    const traced = RequestTrace.begin(name, performance.now(), headers, defaultTextMapGetter, () => ({
      'http.request.method': method,
      ...(route !== undefined && { 'http.route': route }),
      'url.path': request.url.split('?')[0]!,
      'url.scheme': protocol,
      'network.protocol.version': raw.httpVersion,
      'client.address': ip,
      ...(headers['user-agent'] && { 'user_agent.original': headers['user-agent'] }),
    }));
    if (!traced) return done();
    setTrace(request, traced);
    request.log = reply.log = request.log.child(traced.fields);
    active.with(traced.context, done);
  });
}

/** Bounds, logs and counts requests; ends those whose clients do not take their answers. */
function watchRequests(
  app: FastifyInstance,
  limits: ServerLimits,
  metrics: Metrics,
  held: HeldBytes,
  live: LiveFigures | undefined,
): void {
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
      traceOf(request)?.end({ 'http.response.status_code': status }, status >= 500);
      if (request.method === 'POST') live?.request(status, milliseconds);
      const isQuiet = (request.routeOptions.config as PageConfig | undefined)?.isQuiet;
      request.log[isQuiet ? 'debug' : 'info'](
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

/** Refuses requests without one of the keys. */
function requireKeys(app: FastifyInstance, keys: Keys): void {
  app.addHook('onRequest', async (request) => {
    const { url = '', config } = request.routeOptions;
    if (open.has(url) || (config as PageConfig | undefined)?.isOpen || request.method === 'OPTIONS') return;
    const { authorization, 'x-api-key': own } = request.headers;
    setClient(request, keys.clientOf(authorization, typeof own === 'string' ? own : undefined));
  });
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
