/** Which web addresses a server may fetch pictures from: names on a list, and public addresses behind them. */
import { lookup } from 'node:dns/promises';
import ipaddr from 'ipaddr.js';
import { check } from '../runtime/errors.ts';
import { HttpError } from './errors.ts';

/** How names become addresses, and which of these may be connected to. */
export interface Network {
  /** The addresses of a name. */
  resolve(host: string): Promise<readonly string[]>;
  isPublic(address: string): boolean;
}

/** An entry of the list: a host, or all names below one. */
interface Allowed {
  readonly protocol: string | undefined;
  /** Begins with a point where all names below are meant. */
  readonly host: string;
  /** Undefined for the port of the protocol. */
  readonly port: string | undefined;
}

/** Most characters of a URL. */
const longest = 8192;
const entry = /^(?:(https?):\/\/)?(\*\.)?([a-z\d.-]+|\[[\da-f:.]+\])(?::(\d{1,5}))?\/?$/i;
/** Public by its range, and answers machines of one cloud with what is theirs alone. */
const ownOfClouds: ReadonlySet<string> = new Set(['168.63.129.16']);
/** Addresses of version 6 that are given out to the public begin with these 3 bits. */
const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3');

/**
 * Whether an address is one of the public network: not of this machine or a private network, not link-local (where clouds keep what is
 * secret), not multicast, reserved, or of version 4 inside version 6.
 */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address) || ownOfClouds.has(address)) return false;
  const parsed = ipaddr.parse(address);
  if (parsed.range() !== 'unicast') return false;
  return parsed.kind() === 'ipv4' || (parsed as ipaddr.IPv6).match(globalUnicast);
}

export const publicNetwork: Network = {
  resolve: async (host) => (await lookup(host, { all: true, order: 'verbatim' })).map(({ address }) => address),
  isPublic: isPublicAddress,
};

export class UrlRules {
  readonly #allowed: readonly Allowed[];
  readonly #network: Network;

  /**
   * @param hosts `host`, `*.host` for all names below it, `host:port` for another port than that of the protocol, with `https://` in front
   *   for one protocol alone
   * @throws MomeError `MOME_INVALID_ARGUMENT` for anything else, a lone `*` among it
   */
  constructor(hosts: readonly string[], network: Network = publicNetwork) {
    this.#network = network;
    this.#allowed = hosts.map((text): Allowed => {
      const [, protocol, below = '', name, port] = entry.exec(text.trim()) ?? [];
      const host = name && URL.canParse(`http://${name}`) ? new URL(`http://${name}`).hostname : '';
      check(
        host !== '' && Number(port ?? 1) <= 65_535 && (below === '' || host.includes('.')),
        'MOME_INVALID_ARGUMENT',
        `allowUrls: expected hosts such as images.example.com, *.example.com or example.com:8080, got ${JSON.stringify(text.slice(0, 120))}`,
      );
      return {
        protocol: protocol && `${protocol.toLowerCase()}:`,
        host: `${below === '' ? '' : '.'}${withoutEnd(host)}`,
        port: port === undefined ? undefined : String(Number(port)),
      };
    });
  }

  /** The URL of a picture. @throws HttpError 422 for what is none or not on the list */
  urlOf(text: string, param: string, base?: URL): URL {
    const refused = (why: string) => new HttpError(422, 'URL_REFUSED', `${param}: ${why}`, param);
    if (text.length > longest || !URL.canParse(text.trim(), base?.href))
      throw refused('expected a URL of a picture, got none or one that is too long');
    const url = new URL(text.trim(), base);
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      throw refused(`expected an http: or https: URL, got one of ${url.protocol.slice(0, 20)}`);
    if (url.username !== '' || url.password !== '')
      throw refused('expected a URL without a user and a password, got one with');
    if (!this.#allowed.some((allowed) => fits(allowed, url)))
      throw refused('expected a host that the server allows (--allow-url), got another');
    return url;
  }

  /** The addresses of a host, all of which may be connected to. @throws HttpError 422 */
  async addressesOf(host: string): Promise<readonly string[]> {
    const bare = host.replace(/^\[(.*)\]$/, '$1');
    const addresses = ipaddr.isValid(bare) ? [bare] : await this.#network.resolve(bare);
    for (const address of addresses) this.requirePublic(address);
    return addresses;
  }

  /** @throws HttpError 422 for an address of a private network */
  requirePublic(address: string | undefined): void {
    if (address !== undefined && this.#network.isPublic(address)) return;
    throw new HttpError(422, 'URL_REFUSED', 'expected a host with public addresses alone, got another');
  }
}

function fits({ protocol, host, port }: Allowed, url: URL): boolean {
  if (protocol !== undefined && protocol !== url.protocol) return false;
  // A URL has no port where it is that of the protocol.
  const usual = url.protocol === 'https:' ? '443' : '80';
  if ((port ?? usual) !== (url.port || usual)) return false;
  const name = withoutEnd(url.hostname);
  return host.startsWith('.') ? name.endsWith(host) && name.length > host.length : name === host;
}

/** A name without the point that stands for the root of all names. */
const withoutEnd = (host: string) => host.replace(/\.$/, '');
