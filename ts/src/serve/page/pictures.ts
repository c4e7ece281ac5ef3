/** Small copies of the pictures of an index, each named by its number. */
import { LRUCache } from 'lru-cache';
import pLimit from 'p-limit';
import { MomeError } from '../../runtime/errors.ts';
import { thumbnailOf } from '../../search/thumbnail.ts';
import { HttpError } from '../errors.ts';
import type { NumberedPictures } from '../served-index.ts';

/** Sides in pixels: beside a result, and alone. */
export const sides = { small: 224, large: 768 } as const;
export type PictureSize = keyof typeof sides;

/** Pictures decoded at the same time: each is whole in memory until its copy is made. */
const together = 2;
/** Requests that may wait for them; beyond, they are refused with 429. */
const mostWaiting = 512;
/** Bytes of copies that are kept, and how many milliseconds. */
const keptBytes = 32 * 2 ** 20;
const keptFor = 5 * 60_000;

export class IndexPictures {
  readonly source: NumberedPictures;
  readonly #limit = pLimit(together);
  /** Decoders are shared out evenly between calls: all of the page are one, beside those of requests. */
  readonly #call = {};
  readonly #kept: LRUCache<string, Buffer>;

  constructor(source: NumberedPictures) {
    this.source = source;
    this.#kept = new LRUCache<string, Buffer>({
      maxSize: keptBytes,
      sizeCalculation: ({ length }) => Math.max(1, length),
      ttl: keptFor,
      fetchMethod: async (key) => {
        const [size, number] = key.split(' ') as [PictureSize, string];
        return this.#limit(async () => {
          const path = await this.source.pathOf(Number(number));
          return thumbnailOf(path, sides[size], { call: this.#call });
        });
      },
    });
  }

  /**
   * A copy of picture `number` as WebP. Requests for the same one share the work.
   *
   * @param number decimal digits, as they stand in the address
   * @throws HttpError 404 for a number that no picture has and for a picture that can no longer be read, 429
   */
  async get(number: string, size: PictureSize): Promise<Buffer> {
    const { count } = this.source;
    if (!/^(?:0|[1-9]\d{0,9})$/.test(number) || Number(number) >= count)
      throw new HttpError(404, 'PICTURE_NOT_FOUND', `expected the number of a picture below ${count}, got another`);
    const key = `${size} ${number}`;
    if (this.#limit.pendingCount >= mostWaiting && !this.#kept.has(key))
      throw new HttpError(429, 'MOME_OVERLOADED', 'expected room for one more picture, too many wait to be shown');
    try {
      return (await this.#kept.fetch(key))!;
    } catch (error) {
      if (!(error instanceof MomeError)) throw error;
      // Where the folder lies is nobody's business: the message of the error names it.
      throw new HttpError(
        404,
        'PICTURE_UNREADABLE',
        `expected a readable picture as number ${number}, got ${error.code}`,
      );
    }
  }
}
