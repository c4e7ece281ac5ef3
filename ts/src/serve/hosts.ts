/**
 * Which names a server answers to. A page of any site can have its own name point at 127.0.0.1 (DNS rebinding), and would then read what a
 * server without keys says to the browser of the same machine: such a request carries the name of the site as its host.
 */
import { isIP } from 'node:net';
import { check } from '../runtime/errors.ts';
import { HttpError } from './errors.ts';

const hostName = /^(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?$/i;
const loopback = /^(?:::ffff:)?127\.|^::1$/;

export class HostRules {
  readonly #names: ReadonlySet<string>;
  readonly #domains: readonly string[];
  readonly #hasKeys: boolean;

  /**
   * @param allowed names such as `mome.example.com` and `*.example.com`, without ports
   * @param hasKeys whether every request has to bring a key, which a foreign page has not
   * @throws MomeError `MOME_INVALID_ARGUMENT`
   */
  constructor(allowed: readonly string[], hasKeys: boolean) {
    for (const name of allowed)
      check(
        hostName.test(name),
        'MOME_INVALID_ARGUMENT',
        `createServer: expected allowHosts to be names such as mome.example.com or *.example.com, got ${JSON.stringify(name.slice(0, 120))}`,
      );
    const plain = allowed.map((name) => name.toLowerCase().replace(/\.$/, ''));
    this.#names = new Set(plain.filter((name) => !name.startsWith('*.')));
    this.#domains = plain.filter((name) => name.startsWith('*.')).map((name) => name.slice(1));
    this.#hasKeys = hasKeys;
  }

  /**
   * Addresses and `localhost` always pass, since no name stands for them, and so does a request without a host, which no browser sends. Names
   * are checked where some are allowed, and on connections of the same machine to a server without keys.
   *
   * @param host the header, with or without a port
   * @param localAddress the address that the connection came to
   * @throws HttpError 421
   */
  require(host: string | undefined, localAddress: string | undefined): void {
    const hasNames = this.#names.size > 0 || this.#domains.length > 0;
    if (host === undefined || !(hasNames || (!this.#hasKeys && loopback.test(localAddress ?? '')))) return;
    const name = host
      .toLowerCase()
      .replace(/:\d*$/, '')
      .replace(/^\[(.*)\]$/, '$1')
      .replace(/\.$/, '');
    if (name === 'localhost' || name.endsWith('.localhost') || isIP(name) > 0) return;
    if (this.#names.has(name) || this.#domains.some((domain) => name.endsWith(domain))) return;
    throw new HttpError(
      421,
      'HOST_NOT_ALLOWED',
      'expected a host that this server answers to: localhost, an address, or a name of allowHosts (--allow-host)',
    );
  }
}
