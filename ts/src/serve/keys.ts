/** Keys of clients, compared in constant time: as hashes, which have one length. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { HttpError } from './errors.ts';

const hashOf = (key: string) => createHash('sha256').update(key).digest();

export class Keys {
  readonly #known: readonly Buffer[];

  constructor(keys: readonly string[]) {
    this.#known = keys.map(hashOf);
  }

  /**
   * @param authorization the header `authorization`
   * @param own the header `x-api-key`, where there is no bearer
   * @returns what tells the client of a key from others
   * @throws HttpError 401
   */
  clientOf(authorization: string | undefined, own: string | undefined): string {
    const given = /^bearer (.+)$/i.exec(authorization ?? '')?.[1]?.trim() ?? own ?? '';
    const hash = hashOf(given);
    let isKnown = false;
    for (const each of this.#known) isKnown = timingSafeEqual(each, hash) || isKnown;
    if (given === '' || !isKnown)
      throw new HttpError(401, 'UNAUTHORIZED', 'expected a key of this server, got none or another');
    return hash.toString('base64');
  }
}
