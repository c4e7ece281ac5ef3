/**
 * The pictures of a queue: known by their contents, so that the same picture sent by several callers is decoded once.
 */
import { createHash } from 'node:crypto';
import type { PictureSource } from '../image/input.ts';
import { prepareImage } from '../image/prepare.ts';
import { Pace } from '../runtime/pace.ts';

/** Bytes hashed between two looks at the clock. */
const hashedAtOnce = 2 ** 18;

/** A picture that items of a queue show. */
export class QueuedPicture {
  /** Hash of the file; undefined for what is no file, such as pixels. */
  readonly key: string | undefined;
  /** [S, S, 3] once it has been prepared. */
  bytes: Uint8Array | undefined;
  /** Items that show it. */
  users = 0;
  #source: PictureSource | undefined;
  #prepared: Promise<void> | undefined;
  readonly #stop = new AbortController();

  constructor(source: PictureSource, key: string | undefined) {
    this.#source = source;
    this.key = key;
  }

  get isStarted(): boolean {
    return this.#prepared !== undefined;
  }

  /** Decodes and resizes it, once. @param call decoders are shared out evenly between clients and their calls. @param maxPixels most pixels of a file */
  prepare(size: number, call: { readonly client: string }, maxPixels?: number): Promise<void> {
    this.#prepared ??= prepareImage(this.#source!, size, {
      signal: this.#stop.signal,
      call,
      client: call.client,
      maxPixels,
    }).then((bytes) => {
      this.bytes = bytes;
      this.#source = undefined;
    });
    return this.#prepared;
  }

  /** Nobody wants it any more. */
  drop(): void {
    this.#source = undefined;
    if (this.bytes === undefined) this.#stop.abort();
  }
}

/** The pictures that items of one queue show at the moment. */
export class QueuedPictures {
  readonly #known = new Map<string, QueuedPicture>();

  /**
   * The picture of a source, shared with all who show the same. It is held until `release`.
   *
   * @throws MomeError of a source that is no picture or cannot be read, `MOME_ABORTED`
   */
  async hold(source: PictureSource, signal: AbortSignal): Promise<QueuedPicture> {
    const key = await keyOf(source, signal);
    const known = key === undefined ? undefined : this.#known.get(key);
    const picture = known ?? new QueuedPicture(source, key);
    if (key !== undefined && !known) this.#known.set(key, picture);
    picture.users++;
    return picture;
  }

  release(picture: QueuedPicture): void {
    if (--picture.users > 0) return;
    if (picture.key !== undefined && this.#known.get(picture.key) === picture) this.#known.delete(picture.key);
    picture.drop();
  }
}

async function keyOf(source: PictureSource, signal: AbortSignal): Promise<string | undefined> {
  const content = source.content();
  if (content.kind !== 'bytes') return undefined;
  const bytes = await content.read(signal);
  const hash = createHash('sha256');
  const pace = new Pace();
  for (let at = 0; at < bytes.length; at += hashedAtOnce) {
    hash.update(bytes.subarray(at, at + hashedAtOnce));
    await pace.rest();
  }
  return hash.digest('base64');
}
