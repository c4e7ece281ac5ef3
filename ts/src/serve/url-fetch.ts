/** Pictures by URL, for servers that allow it: from listed hosts with public addresses, within bounds of bytes, time, type and hops. */
import type { LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { Agent, Dispatcher } from 'undici';
import { joined } from '../image/bytes.ts';
import { onAbort } from '../runtime/abort.ts';
import { HttpError } from './errors.ts';
import type { ServerLimits } from './options.ts';
import type { UrlRules } from './url-rules.ts';
import { packageVersion } from './version.ts';

/** Pictures fetched at the same time from one host, and hosts known at the same time. */
const connections = 16;
const origins = 256;
/** Redirects that are followed, each checked as the first URL is. */
const mostHops = 3;
const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Milliseconds in which a host has to take a connection. */
const connectTimeout = 3000;
/** Types that pictures come as; what they are is told by their first bytes. */
const pictureType = /^(?:image\/[\w.+-]+|(?:application|binary)\/octet-stream)\s*(?:;|$)/i;

export interface FetchOptions {
  /** Names the field of the request in messages. */
  readonly param: string;
  readonly signal: AbortSignal;
  /** Told of bytes as they come; may refuse them. */
  readonly onBytes: (count: number) => void;
}

export class PictureFetcher {
  readonly #rules: UrlRules;
  readonly #limits: Pick<ServerLimits, 'pictureBytes' | 'urlTimeout'>;
  #agent: Promise<Agent> | undefined;

  constructor(rules: UrlRules, limits: Pick<ServerLimits, 'pictureBytes' | 'urlTimeout'>) {
    this.#rules = rules;
    this.#limits = limits;
  }

  /**
   * The bytes of the file at a URL.
   *
   * @throws HttpError 422 `URL_REFUSED` for a URL that is not allowed, 422 `URL_FAILED` for one that gives no picture in time, 413
   */
  async fetch(text: string, { param, signal, onBytes }: FetchOptions): Promise<Uint8Array> {
    this.#agent ??= this.#makeAgent();
    const agent = await this.#agent;
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), this.#limits.urlTimeout);
    const ended = onAbort(signal, () => stop.abort(signal.reason));
    try {
      signal.throwIfAborted();
      let url = this.#rules.urlOf(text, param);
      for (let hop = 0; ; hop++) {
        const response = await this.#get(agent, url, stop.signal);
        if (!redirects.has(response.statusCode)) return await this.#bytesOf(response, param, onBytes);
        const { location } = response.headers;
        discard(response);
        if (hop === mostHops) throw failed(param, `expected at most ${mostHops} redirects, got more`);
        if (typeof location !== 'string') throw failed(param, 'expected a redirect to one place, got another');
        url = this.#rules.urlOf(location, param, url);
      }
    } catch (error) {
      signal.throwIfAborted();
      const refused = refusalIn(error);
      if (refused?.param === param) throw refused;
      if (refused) throw new HttpError(refused.statusCode, refused.code, `${param}: ${refused.message}`, param);
      if (stop.signal.aborted)
        throw failed(param, `expected the picture within ${this.#limits.urlTimeout} ms, it took longer`);
      throw failed(
        param,
        'expected the host of the URL to give a picture, it could not be reached or broke off',
        error,
      );
    } finally {
      clearTimeout(timer);
      ended();
    }
  }

  async close(): Promise<void> {
    await (await this.#agent)?.destroy();
  }

  async #get(agent: Agent, url: URL, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    // A host that is an address is not looked up when it is connected to.
    if (ipaddr.isValid(url.hostname.replace(/^\[(.*)\]$/, '$1'))) await this.#rules.addressesOf(url.hostname);
    const headers = { accept: 'image/*', 'accept-encoding': 'identity', 'user-agent': `mome/${packageVersion()}` };
    return agent.request({
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method: 'GET',
      headers,
      signal,
    });
  }

  /** Connects to addresses that were checked, and looks at the address once more when it is connected. */
  async #makeAgent(): Promise<Agent> {
    const { Agent, buildConnector } = await import('undici'); // takes a while to load, and most servers never need it
    const lookup: LookupFunction = (host, options, callback) => {
      this.#rules.addressesOf(host).then(
        (addresses) => {
          const all = addresses.map((address) => ({
            address,
            family: ipaddr.parse(address).kind() === 'ipv6' ? 6 : 4,
          }));
          if (all.length === 0) callback(new Error('expected an address of the host, got none'), '');
          else if (options.all) callback(null, all);
          else callback(null, all[0]!.address, all[0]!.family);
        },
        (error: Error) => callback(error, ''),
      );
    };
    const connect = buildConnector({ lookup, timeout: connectTimeout, maxCachedSessions: 0 } as object);
    return new Agent({
      connections,
      maxOrigins: origins,
      maxHeaderSize: 16_384,
      headersTimeout: this.#limits.urlTimeout,
      bodyTimeout: this.#limits.urlTimeout,
      connect: (options, callback) =>
        connect(options, (error, socket) => {
          if (error) return callback(error, null);
          try {
            this.#rules.requirePublic(socket!.remoteAddress);
          } catch (refused) {
            socket!.destroy();
            return callback(refused as Error, null);
          }
          callback(null, socket!);
        }),
    });
  }

  async #bytesOf(
    response: Dispatcher.ResponseData,
    param: string,
    onBytes: FetchOptions['onBytes'],
  ): Promise<Uint8Array> {
    const { statusCode, headers, body } = response;
    const { pictureBytes } = this.#limits;
    const tooLarge = () =>
      new HttpError(
        413,
        'MOME_TOO_LARGE',
        `${param}: expected a picture of at most ${pictureBytes} bytes, got more`,
        param,
      );
    try {
      const type = headers['content-type'] ?? 'application/octet-stream';
      if (statusCode !== 200) throw failed(param, `expected a picture at the URL, got HTTP status ${statusCode}`);
      if (typeof type !== 'string' || !pictureType.test(type))
        throw failed(param, 'expected a picture at the URL, got something of another type');
      if ((headers['content-encoding'] ?? 'identity') !== 'identity')
        throw failed(param, 'expected a picture without content-encoding, got one with; nothing is unpacked');
      if (Number(headers['content-length'] ?? 0) > pictureBytes) throw tooLarge();
      const pieces: Uint8Array[] = [];
      let length = 0;
      for await (const piece of body as AsyncIterable<Uint8Array>) {
        length += piece.length;
        if (length > pictureBytes) throw tooLarge();
        onBytes(piece.length);
        pieces.push(piece);
      }
      return pieces.length === 0 ? new Uint8Array(0) : await joined(pieces);
    } catch (error) {
      discard(response);
      throw error;
    }
  }
}

const failed = (param: string, message: string, cause?: unknown) =>
  new HttpError(422, 'URL_FAILED', `${param}: ${message}`, param, { cause });

/** Nothing more of an answer is wanted. */
function discard({ body }: Dispatcher.ResponseData): void {
  body.on('error', () => {});
  body.destroy();
}

/** What we have refused ourselves, also inside an error of the library. */
function refusalIn(error: unknown): HttpError | undefined {
  if (error instanceof HttpError) return error;
  if (error instanceof AggregateError) return error.errors.map(refusalIn).find((each) => each !== undefined);
  return error instanceof Error && error.cause !== undefined ? refusalIn(error.cause) : undefined;
}
