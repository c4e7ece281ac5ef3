/** `mome serve`: models behind HTTP and gRPC. */
import { readFile } from 'node:fs/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type LoadOptions, Vlmo } from '../inference/index.ts';
import type { DeviceName } from '../runtime/device.ts';
import { check, MomeError } from '../runtime/errors.ts';
import type { ServerOptions } from '../serve/options.ts';
import type { MomeServer } from '../serve/server.ts';
import { countNumber, type ModelFlags, wholeNumber, withModelFlags } from './context.ts';
import { note } from './output.ts';
import { type OpenedIndex, openServedIndex, picturesBelow } from './serve-index.ts';

interface ServeFlags extends Omit<ModelFlags, 'model'> {
  readonly model?: readonly string[];
  readonly host: string;
  readonly port: number;
  readonly grpcPort?: number;
  readonly index?: string;
  readonly store?: string;
  readonly pictures?: string;
  readonly writable?: boolean;
  readonly page: boolean;
  readonly apiKeyFile?: string;
  readonly allowHost?: readonly string[];
  readonly cors?: readonly string[];
  readonly allowUrl?: readonly string[];
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly trustProxy?: boolean;
  readonly logLevel: string;
  readonly cache: number;
  readonly queue: number;
  readonly maxItems: number;
  readonly maxBody: number;
  readonly maxJson: number;
  readonly maxPicture: number;
  readonly maxPixels: number;
  readonly maxText: number;
  readonly timeout: number;
  readonly headTimeout: number;
  readonly bodyTimeout: number;
  readonly writeTimeout: number;
  readonly urlTimeout: number;
  readonly connections: number;
  readonly runsAhead: number;
  readonly drainDelay: number;
  readonly drainTimeout: number;
}

/** A model by name. */
interface NamedModel {
  readonly name: string;
  readonly path: string | undefined;
}

/** What the server has at the moment. */
interface Served {
  readonly models: Record<string, Vlmo>;
  opened: OpenedIndex | undefined;
}

export function addServe(program: Command): void {
  const command = withModelFlags(
    program
      .command('serve')
      .description('serve models over HTTP: OpenAI, Cohere, Jina, TEI, Open Inference Protocol and own routes'),
  );
  // One model is the usual; `name=path` makes several of it.
  const own = command.options.findIndex(({ long }) => long === '--model');
  (command.options as Option[]).splice(own, 1);
  const option = (flags: string, text: string, variable: string) =>
    new Option(flags, text).env(`MOME_SERVE_${variable}`);
  const number = (flags: string, text: string, variable: string, value: number, parse = countNumber) =>
    command.addOption(option(flags, text, variable).argParser(parse).default(value));
  const list = (text: string, before: readonly string[] | undefined) => [
    ...(before ?? []),
    ...text.split(',').map((each) => each.trim()),
  ];
  command.addOption(
    option(
      '-m, --model <path...>',
      'model folder or checkpoint, or name=path for several; default: the model that ships with mome',
      'MODEL',
    ).argParser(list),
  );
  command.addOption(option('--host <address>', 'address to listen at', 'HOST').default('127.0.0.1'));
  number('--port <n>', 'port; 0 takes a free one', 'PORT', 8080, portNumber);
  command.addOption(
    option('--grpc-port <n>', 'port of the Open Inference Protocol over gRPC; default: none', 'GRPC_PORT').argParser(
      portNumber,
    ),
  );
  command.addOption(
    option(
      '--index <file>',
      'index of "mome index" or "mome search" for /v1/search, made with the first model; one with 8-bit rows stays on disk',
      'INDEX',
    ),
  );
  command.addOption(
    option(
      '--store <place>',
      'store of vectors for /v1/search: a file, made where it is missing, or postgresql://user@host/database?table=name',
      'STORE',
    ),
  );
  command.addOption(
    option(
      '--pictures <folder>',
      'folder of the pictures of --store, whose ids are paths below it: text queries are then re-ranked',
      'PICTURES',
    ),
  );
  command.addOption(option('--writable', 'let requests add to --store and remove from it', 'WRITABLE'));
  command.addOption(option('--no-page', 'without the web page at /', 'NO_PAGE'));
  command.addOption(
    option('--api-key-file <file>', 'file of keys, one a line; requests must bring one', 'API_KEY_FILE'),
  );
  command.addOption(
    option(
      '--allow-host <name...>',
      'names that requests may give as their host: mome.example.com, *.example.com; default: any, but none on loopback without keys',
      'ALLOW_HOST',
    ).argParser(list),
  );
  command.addOption(option('--cors <origin...>', 'origins whose pages may call', 'CORS').argParser(list));
  command.addOption(
    option(
      '--allow-url <host...>',
      'hosts from which pictures are fetched by URL: images.example.com, *.example.com, example.com:8080; default: none',
      'ALLOW_URL',
    ).argParser(list),
  );
  command.addOption(option('--tls-cert <file>', 'certificate (PEM)', 'TLS_CERT'));
  command.addOption(option('--tls-key <file>', 'its key (PEM)', 'TLS_KEY'));
  command.addOption(option('--trust-proxy', 'believe x-forwarded-for', 'TRUST_PROXY'));
  command.addOption(
    option('--log-level <level>', 'logs on standard error, as JSON', 'LOG_LEVEL')
      .choices(['silent', 'error', 'warn', 'info', 'debug'])
      .default('info'),
  );
  number('--cache <MiB>', 'results kept for inputs that come again', 'CACHE', 0, wholeNumber);
  number('--queue <n>', 'items under way, for each model; beyond, 429', 'QUEUE', 4096);
  number('--max-items <n>', 'items of a request', 'MAX_ITEMS', 512);
  number('--max-body <MiB>', 'body of a request', 'MAX_BODY', 32);
  number('--max-json <MiB>', 'body of a request in JSON; at most 8', 'MAX_JSON', 4);
  number('--max-picture <MiB>', 'picture file', 'MAX_PICTURE', 20);
  number('--max-pixels <million>', 'pixels of a picture', 'MAX_PIXELS', 64);
  number('--max-text <n>', 'characters of a text', 'MAX_TEXT', 32_768);
  number('--timeout <ms>', 'time of a request', 'TIMEOUT', 60_000);
  number('--head-timeout <ms>', 'time in which the head of a request has to arrive', 'HEAD_TIMEOUT', 10_000);
  number('--body-timeout <ms>', 'time in which all of a request has to arrive', 'BODY_TIMEOUT', 30_000);
  number('--write-timeout <ms>', 'time in which a client has to take its answer', 'WRITE_TIMEOUT', 30_000);
  number('--url-timeout <ms>', 'time in which a picture has to be fetched (--allow-url)', 'URL_TIMEOUT', 10_000);
  number('--connections <n>', 'connections at the same time', 'CONNECTIONS', 4096);
  number('--runs-ahead <n>', 'runs handed over before the one under way ends', 'RUNS_AHEAD', 0, wholeNumber);
  number('--drain-delay <ms>', 'time between not ready and the end of listening', 'DRAIN_DELAY', 0, wholeNumber);
  number('--drain-timeout <ms>', 'time that requests under way have to end', 'DRAIN_TIMEOUT', 60_000);
  command.addHelpText(
    'after',
    '\nEvery option of its own is also an environment variable: MOME_SERVE_PORT, MOME_SERVE_API_KEY_FILE.',
  );
  command.action(serve);
}

async function serve(flags: ServeFlags): Promise<void> {
  const { createServer } = await import('../serve/index.ts'); // its libraries are loaded for this command alone
  const named = namedModels(flags.model);
  const options = await serverOptions(flags);
  const loading = new AbortController();
  const stopLoading = () => loading.abort(new Error('interrupted'));
  process.once('SIGINT', stopLoading).once('SIGTERM', stopLoading);
  const models: Record<string, Vlmo> = {};
  for (const { name, path } of named) models[name] = await load(path, flags, loading.signal);
  const opened = await openServedIndex(models[named[0]!.name]!, flags);
  const server = await createServer(models, { ...options, ...(opened && { index: opened.index }) });
  const address = await server.listen({ host: flags.host, port: flags.port });
  if (flags.grpcPort !== undefined)
    note(`listening for gRPC at ${await server.listenGrpc({ host: flags.host, port: flags.grpcPort })}`);
  note(`listening at ${address}; models: ${named.map(({ name }) => name).join(', ')}`);
  process.off('SIGINT', stopLoading).off('SIGTERM', stopLoading);
  const served: Served = { models, opened };
  await new Promise<void>((ended) => {
    reloadOnHangup(server, named, flags, served);
    endOnSignal(server, flags, ended);
  });
  await served.opened?.close();
  for (const model of Object.values(models)) await model.dispose();
}

/** SIGTERM and Ctrl-C end the server once requests under way are answered; a second one, or the time, ends it at once. */
function endOnSignal(server: MomeServer, { drainDelay, drainTimeout }: ServeFlags, ended: () => void): void {
  let isEnding = false;
  const end = (signal: NodeJS.Signals) => {
    if (isEnding) process.exit(130);
    isEnding = true;
    note(`${signal}: answering what is under way`);
    setTimeout(() => {
      note(`expected requests to end within ${drainTimeout} ms, some did not`);
      process.exit(1);
    }, drainDelay + drainTimeout).unref();
    server.drain(drainDelay).then(ended, (error: unknown) => {
      note(`ending failed: ${error instanceof Error ? error.message : String(error)}`);
      process.exit(1);
    });
  };
  process.on('SIGTERM', end).on('SIGINT', end);
}

/**
 * SIGHUP loads the models and an index file again; requests go to the old ones until the new ones are there. A store stays: it holds what
 * requests have written.
 */
function reloadOnHangup(server: MomeServer, named: readonly NamedModel[], flags: ServeFlags, served: Served): void {
  let reloading = Promise.resolve();
  process.on('SIGHUP', () => {
    reloading = reloading
      .then(async () => {
        for (const [i, { name, path }] of named.entries()) {
          const old = served.models[name]!;
          const fresh = await load(path, flags);
          const hasIndex = i === 0 && flags.index !== undefined;
          let opened: OpenedIndex | undefined;
          try {
            opened = hasIndex ? await openServedIndex(fresh, flags) : undefined;
            await server.replaceEngine(name, fresh, opened?.index);
          } catch (error) {
            await opened?.close();
            await fresh.dispose();
            throw error;
          }
          served.models[name] = fresh;
          if (opened) {
            await served.opened?.close();
            served.opened = opened;
          }
          await old.dispose();
          note(`loaded ${name} again${hasIndex ? ', and its index' : ''}`);
        }
      })
      .catch((error: unknown) =>
        note(`loading again failed, the old model stays: ${error instanceof Error ? error.message : String(error)}`),
      );
  });
}

function load(path: string | undefined, flags: ServeFlags, signal?: AbortSignal): Promise<Vlmo> {
  const options: LoadOptions = {
    ...(signal && { signal }),
    ...(flags.threads !== undefined && { threads: flags.threads }),
    ...(flags.device !== undefined && { device: flags.device as DeviceName }),
    ...(flags.memoryLimit !== undefined && { memoryLimit: flags.memoryLimit * 2 ** 20 }),
    ...(flags.target !== undefined && { target: flags.target }),
    ...(flags.dtype !== undefined && { dtype: flags.dtype }),
  };
  return Vlmo.load(path, options);
}

/** `path`, or `name=path`; a path alone is called `mome`. */
function namedModels(given: readonly string[] | undefined): readonly NamedModel[] {
  const named = (given ?? []).map((text): NamedModel => {
    const [, name, path] = /^([\w.:-]+)=(.+)$/s.exec(text) ?? [];
    return name === undefined ? { name: 'mome', path: text } : { name, path };
  });
  const names = new Set(named.map(({ name }) => name));
  check(
    names.size === named.length,
    'MOME_INVALID_ARGUMENT',
    'serve: expected models of different names (name=path), got two of one',
  );
  return named.length === 0 ? [{ name: 'mome', path: undefined }] : named;
}

async function serverOptions(flags: ServeFlags): Promise<ServerOptions> {
  check(
    (flags.tlsCert === undefined) === (flags.tlsKey === undefined),
    'MOME_INVALID_ARGUMENT',
    'serve: expected --tls-cert and --tls-key together, got one of them',
  );
  const apiKeys =
    flags.apiKeyFile === undefined ? undefined : keysOf(await contentOf(flags.apiKeyFile), flags.apiKeyFile);
  const tls = flags.tlsCert && { cert: await contentOf(flags.tlsCert), key: await contentOf(flags.tlsKey!) };
  check(
    flags.store !== undefined || (flags.pictures === undefined && !flags.writable),
    'MOME_INVALID_ARGUMENT',
    'serve: expected --store with --pictures and --writable, got one of them without it',
  );
  return {
    page: flags.page,
    ...(flags.pictures !== undefined && { pictureOf: picturesBelow(flags.pictures) }),
    ...(flags.writable && { isWritable: true }),
    ...(apiKeys && { apiKeys }),
    ...(tls && { tls }),
    ...(flags.cors && { corsOrigins: flags.cors }),
    ...(flags.allowHost && { allowHosts: flags.allowHost }),
    ...(flags.allowUrl && { allowUrls: flags.allowUrl }),
    ...(flags.trustProxy && { trustProxy: true }),
    ...(flags.logLevel !== 'silent' && { logger: { level: flags.logLevel, stream: process.stderr } }),
    cacheBytes: flags.cache * 2 ** 20,
    runsAhead: flags.runsAhead,
    limits: {
      queueItems: flags.queue,
      items: flags.maxItems,
      bodyBytes: flags.maxBody * 2 ** 20,
      jsonBytes: flags.maxJson * 2 ** 20,
      pictureBytes: flags.maxPicture * 2 ** 20,
      pixels: flags.maxPixels * 1_000_000,
      textLength: flags.maxText,
      timeout: flags.timeout,
      headTimeout: flags.headTimeout,
      bodyTimeout: flags.bodyTimeout,
      writeTimeout: flags.writeTimeout,
      urlTimeout: flags.urlTimeout,
      connections: flags.connections,
    },
  };
}

async function contentOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new MomeError('MOME_NOT_FOUND', `serve: expected a readable file, got ${path}: ${reason}`, { cause: error });
  }
}

function keysOf(text: string, path: string): string[] {
  const keys = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  check(keys.length > 0, 'MOME_INVALID_ARGUMENT', `serve: expected keys in ${path}, one a line, got none`);
  return keys;
}

function portNumber(text: string): number {
  const port = wholeNumber(text);
  if (port > 65_535) throw new InvalidArgumentError('Expected a port from 0 to 65535.');
  return port;
}
