/** What a server is told when it is made. */
import type { FastifyServerOptions } from 'fastify';
import type { PictureOf, ServableIndex } from './served-index.ts';
import type { Network } from './url-rules.ts';

/** Bounds of what one request may bring, and of all of them together. */
export interface ServerLimits {
  /** Bytes of one request's body, which may be a form with files. */
  readonly bodyBytes: number;
  /** Bytes of a body in JSON, at most {@link mostJsonBytes}: larger ones would hold up the event loop. Large pictures go into forms. */
  readonly jsonBytes: number;
  /** Bytes of the bodies of all requests under way. */
  readonly bodyBytesTogether: number;
  /** Bytes of one picture file. */
  readonly pictureBytes: number;
  /** Pixels of one picture, or of all pictures in one drawing. */
  readonly pixels: number;
  /** Texts, pictures and pairs of one request. */
  readonly items: number;
  /** Characters of one text. */
  readonly textLength: number;
  /** Items of all requests under way, for each engine; beyond, requests are refused with 429. */
  readonly queueItems: number;
  /** Connections at the same time, of HTTP and of gRPC each. */
  readonly connections: number;
  /** Calls of gRPC at the same time on one connection. */
  readonly streams: number;
  /** Milliseconds in which a picture has to be fetched, where URLs are allowed. */
  readonly urlTimeout: number;
  /** Milliseconds in which a request has to be done, unless it asks for less with `x-timeout-ms`. */
  readonly timeout: number;
  /** Milliseconds in which the head of a request has to arrive, and all of it. */
  readonly headTimeout: number;
  readonly bodyTimeout: number;
  /** Milliseconds in which a client has to take its answer. */
  readonly writeTimeout: number;
}

/** The most that `jsonBytes` may be: a single text of so many bytes is read in one piece, in some hundredths of a second. */
export const mostJsonBytes = 8 * 2 ** 20;

export const defaultLimits: ServerLimits = {
  bodyBytes: 32 * 2 ** 20,
  jsonBytes: 4 * 2 ** 20,
  bodyBytesTogether: 512 * 2 ** 20,
  pictureBytes: 20 * 2 ** 20,
  pixels: 64_000_000,
  items: 512,
  textLength: 32_768,
  queueItems: 4096,
  connections: 4096,
  streams: 256,
  urlTimeout: 10_000,
  timeout: 60_000,
  headTimeout: 10_000,
  bodyTimeout: 30_000,
  writeTimeout: 30_000,
};

export interface ServerOptions {
  /** An index or a store of vectors for `/v1/search`, made with the first engine; the caller closes it. */
  readonly index?: ServableIndex;
  /**
   * The picture of a row of a store, for re-ranking. Default: text queries of a store are not re-ranked, since ids that requests have added
   * must name no file of the server.
   */
  readonly pictureOf?: PictureOf;
  /** Whether requests may add to the store and remove from it; default: they may not. */
  readonly isWritable?: boolean;
  /** Whether `/` is a web page: search, questions, live figures; default: it is not there. */
  readonly page?: boolean;
  /** Keys of which every request has to bring one (`Authorization: Bearer <key>` or `x-api-key`, in gRPC as metadata); default: none. */
  readonly apiKeys?: readonly string[];
  /**
   * Names that requests may give as their host, such as `mome.example.com` or `*.example.com`; addresses and `localhost` always may. Default:
   * names are refused on connections of the same machine to a server without keys, and not looked at elsewhere.
   */
  readonly allowHosts?: readonly string[];
  /** Origins whose pages may call; default: none. */
  readonly corsOrigins?: readonly string[];
  /**
   * Hosts from which pictures may be fetched by URL, such as `images.example.com`, `*.example.com`, `example.com:8080`; and only while all
   * their addresses are public. Default: none, and nothing is fetched.
   */
  readonly allowUrls?: readonly string[];
  /** How names of `allowUrls` become addresses, and which may be connected to: for tests. @internal */
  readonly network?: Network;
  /** Certificate and key as PEM; default: HTTP and gRPC without TLS. */
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer };
  /** As of Fastify: `true`, or options of pino; default: no logs. */
  readonly logger?: FastifyServerOptions['logger'];
  /** Whether `x-forwarded-for` is believed: behind a proxy alone. */
  readonly trustProxy?: boolean;
  /** Bytes of results that each engine keeps for inputs that come again; default 0. */
  readonly cacheBytes?: number;
  /** Runs handed to an engine before the one under way ends; default 0. */
  readonly runsAhead?: number;
  readonly limits?: Partial<ServerLimits>;
}
