/** Writing an index that stays on disk, row by row, and reading its pictures by their numbers. */
import { type FileHandle, open } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import { openSafetensors } from '../checkpoint/index.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import { replaceFile } from '../runtime/files.ts';
import type { InputFile } from '../runtime/input-file.ts';
import { Pace } from '../runtime/pace.ts';
import { codeStride, writeCodes } from './codes.ts';
import type { IndexedImage } from './content.ts';
import {
  type DiskLayout,
  diskHeader,
  diskLayout,
  diskVersion,
  hashBytes,
  offsetBytes,
  stampBytes,
} from './disk-layout.ts';
import type { IndexModel } from './index-file.ts';
import { indexFormat, indexTarget } from './index-target.ts';
import type { EmbeddedImage } from './journal.ts';
import { firstNonFinite } from './rows.ts';

/** What is written of an index. */
export interface DiskContents {
  /** The folder that paths are relative to. */
  readonly root: string;
  /** Pictures there are going to be. */
  readonly count: number;
  readonly images: Iterable<EmbeddedImage> | AsyncIterable<EmbeddedImage>;
  /** Whether float32 rows are kept beside the codes; default true. */
  readonly exact?: boolean;
  readonly signal?: AbortSignal;
}

/** Bytes gathered of each part of the file before they are written. */
const pieceBytes = 2 ** 20;
/** Pictures read together. */
const itemsAtOnce = 2048;
/** Longest path in a file, as Linux takes it. */
const maxPathBytes = 4096;
const decoder = new TextDecoder('utf-8', { fatal: true });

/** Bytes of one part of the file, from `position` on. */
class SectionWriter {
  readonly #file: FileHandle;
  readonly #bytes = Buffer.allocUnsafe(pieceBytes);
  #position: number;
  #filled = 0;

  constructor(file: FileHandle, position: number) {
    this.#file = file;
    this.#position = position;
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#filled + bytes.length > pieceBytes) await this.flush();
    if (bytes.length > pieceBytes) {
      await this.#put(bytes);
      return;
    }
    this.#bytes.set(bytes, this.#filled);
    this.#filled += bytes.length;
  }

  async flush(): Promise<void> {
    const filled = this.#filled;
    this.#filled = 0;
    await this.#put(this.#bytes.subarray(0, filled));
  }

  async #put(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#position);
      this.#position += bytesWritten;
      done += bytesWritten;
    }
  }
}

const bytesOf = (values: NodeJS.ArrayBufferView): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/**
 * Writes an index in one move. Of its pictures one at a time is in memory.
 *
 * @returns the file that was written; another one than `path` where that is a link
 * @throws MomeError as `indexTarget` where `path` must not be written, `MOME_INVALID_ARGUMENT` for another number of pictures than `count`,
 *   `MOME_INVALID_SHAPE` and `MOME_NON_FINITE` for a row, `MOME_TOO_LARGE`, `MOME_IO`, `MOME_ABORTED`; what `images` throws
 */
export async function writeDiskIndex(path: string, model: IndexModel, contents: DiskContents): Promise<string> {
  const target = await indexTarget(path);
  await replaceFile(target, async (temporary) => {
    const file = await open(temporary, 'wx');
    try {
      await writeContents(file, target, model, contents);
    } finally {
      await file.close();
    }
  });
  return target;
}

async function writeContents(
  file: FileHandle,
  target: string,
  { fingerprint, config: { width } }: IndexModel,
  { root, count, images, exact: isExact = true, signal }: DiskContents,
): Promise<void> {
  const place = relative(dirname(target), root) || '.';
  const metadata = { format: indexFormat, version: diskVersion, fingerprint, root: place, absoluteRoot: root };
  const parts = { count, width, isExact, metadata };
  const { layout, bytes } = diskHeader({ ...parts, nameBytes: 0 });
  const at = (section: { readonly at: number }) => new SectionWriter(file, section.at);
  const writers = {
    codes: at(layout.codes),
    scales: at(layout.scales),
    embeddings: layout.embeddings && at(layout.embeddings),
    stamps: at(layout.stamps),
    hashes: at(layout.hashes),
    offsets: at(layout.offsets),
    names: at(layout.names),
  };
  const codes = new Int8Array(codeStride(width));
  const offset = Buffer.alloc(offsetBytes);
  const hash = Buffer.alloc(hashBytes);
  let written = 0;
  let nameBytes = 0;
  const pace = new Pace();
  for await (const { item, embedding } of images) {
    requireNotAborted(signal, 'index');
    check(written < count, 'MOME_INVALID_ARGUMENT', `index: expected ${count} pictures, got more`);
    const wrong = firstNonFinite(embedding);
    check(
      embedding.length === width,
      'MOME_INVALID_SHAPE',
      `index: picture ${written}: expected ${width} values, got ${embedding.length}`,
    );
    check(
      wrong < 0,
      'MOME_NON_FINITE',
      `index: picture ${written}: expected a finite embedding, got ${embedding[wrong]} at ${wrong}`,
    );
    const name = Buffer.from(relative(root, item.path));
    check(
      name.length <= maxPathBytes,
      'MOME_TOO_LARGE',
      `index: picture ${written}: expected a path of at most ${maxPathBytes} bytes, got ${name.length}`,
    );
    await writers.scales.write(bytesOf(Float32Array.of(writeCodes(embedding, codes, 0))));
    await writers.codes.write(bytesOf(codes));
    await writers.embeddings?.write(bytesOf(embedding));
    await writers.stamps.write(bytesOf(Float64Array.of(item.size, item.modified, item.changed)));
    hash.fill(0);
    hash.write(item.hash, 'hex');
    await writers.hashes.write(hash);
    offset.writeBigUInt64LE(BigInt(nameBytes));
    await writers.offsets.write(offset);
    await writers.names.write(name);
    nameBytes += name.length;
    written++;
    await pace.rest();
  }
  check(written === count, 'MOME_INVALID_ARGUMENT', `index: expected ${count} pictures, got ${written}`);
  offset.writeBigUInt64LE(BigInt(nameBytes));
  await writers.offsets.write(offset);
  for (const writer of Object.values(writers)) await writer?.flush();
  const header = diskHeader({ ...parts, nameBytes }).bytes;
  check(header.length === bytes.length, 'MOME_INTERNAL', 'index: expected a header of the same length');
  await file.write(header, 0, header.length, 0);
}

/** An open file of such an index. Nothing but its header is in memory. */
export class DiskFile {
  readonly file: InputFile;
  readonly layout: DiskLayout;
  readonly metadata: Readonly<Record<string, string>>;

  private constructor(file: InputFile, layout: DiskLayout, metadata: Readonly<Record<string, string>>) {
    this.file = file;
    this.layout = layout;
    this.metadata = metadata;
  }

  /**
   * Reads the header of an open file, which the caller closes.
   *
   * @throws MomeError `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_IO`, or `MOME_UNSUPPORTED` when it was made with another model
   */
  static async of(file: InputFile, { fingerprint, config: { width } }: IndexModel): Promise<DiskFile> {
    const { path } = file;
    const { metadata, entries } = await openSafetensors(file);
    check(
      metadata.format === indexFormat && metadata.version === diskVersion,
      'MOME_INVALID_FILE',
      `${path}: expected a mome index of version ${diskVersion}, got ${metadata.format === indexFormat ? `version ${metadata.version}` : 'another file'}`,
    );
    check(
      metadata.fingerprint === fingerprint,
      'MOME_UNSUPPORTED',
      `${path}: expected an index made with this model, got one of another; build it again`,
    );
    return new DiskFile(file, diskLayout(entries, width, path), metadata);
  }

  /** The path of picture `row`, relative to the root. @throws MomeError `MOME_INVALID_FILE`, `MOME_IO` */
  async nameOf(row: number): Promise<string> {
    const { offsets } = this.layout;
    const [name] = await this.#names(await this.file.read(offsets.at + row * offsetBytes, 2 * offsetBytes));
    return name!;
  }

  /** Pictures [first, end), with paths seen from `root`. @throws MomeError `MOME_INVALID_FILE`, `MOME_IO` */
  async items(first: number, end: number, root: string, signal?: AbortSignal): Promise<IndexedImage[]> {
    const { offsets, stamps, hashes } = this.layout;
    const items: IndexedImage[] = [];
    const pace = new Pace();
    for (let begin = first; begin < end; begin += itemsAtOnce) {
      requireNotAborted(signal, 'index');
      const count = Math.min(itemsAtOnce, end - begin);
      const names = await this.#names(
        await this.file.read(offsets.at + begin * offsetBytes, (count + 1) * offsetBytes),
      );
      const stamp = new Float64Array((await this.file.read(stamps.at + begin * stampBytes, count * stampBytes)).buffer);
      const hash = Buffer.from(await this.file.read(hashes.at + begin * hashBytes, count * hashBytes));
      for (const [i, name] of names.entries()) {
        const digits = hash.toString('hex', i * hashBytes, (i + 1) * hashBytes);
        items.push({
          path: resolve(root, name),
          size: stamp[3 * i]!,
          modified: stamp[3 * i + 1]!,
          changed: stamp[3 * i + 2]!,
          hash: /^0+$/.test(digits) ? '' : digits,
        });
      }
      await pace.rest();
    }
    return items;
  }

  /** The paths between `bytes`, which are neighbouring offsets. */
  async #names(bytes: Uint8Array): Promise<string[]> {
    const { path } = this.file;
    const { names } = this.layout;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const places = Array.from({ length: bytes.length / offsetBytes }, (_, i) =>
      Number(view.getBigInt64(i * offsetBytes, true)),
    );
    for (const [i, place] of places.entries()) {
      const before = i === 0 ? 0 : places[i - 1]!;
      const fits = place >= before && place <= names.bytes && (i === 0 || place - before <= maxPathBytes);
      check(
        fits,
        'MOME_INVALID_FILE',
        `${path}: expected paths one behind the other, got one from ${before} to ${place}`,
      );
    }
    const text = await this.file.read(names.at + places[0]!, places.at(-1)! - places[0]!);
    return places.slice(1).map((end, i) => {
      const name = decodeName(text.subarray(places[i]! - places[0]!, end - places[0]!));
      check(name !== undefined, 'MOME_INVALID_FILE', `${path}: expected a path of a picture`);
      return name;
    });
  }
}

function decodeName(bytes: Uint8Array): string | undefined {
  try {
    const name = decoder.decode(bytes);
    return name === '' || name.includes('\0') ? undefined : name;
  } catch {
    return undefined; // no UTF-8
  }
}
