/**
 * WebDataset shards: tar files in which the files of a sample follow each other and share the part of their names before the first dot, such as
 * `000012.jpg` and `000012.txt`. Headers are read when a shard is opened, a sample when it is asked for.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import tar from 'tar-stream';
import { check, clip, MomeError } from '../../runtime/errors.ts';
import { InputFile, refuseLfsPointer } from '../../runtime/input-file.ts';
import { type JsonLimits, parseJson } from '../../runtime/json.ts';
import { Pace } from '../../runtime/pace.ts';
import { type Dataset, hashTexts } from './dataset.ts';

const mostTextBytes = 2 ** 20;
const mostPictureBytes = 2 ** 28;
const mostSamples = 2 ** 24;
const pictureExtensions = new Set(['jpg', 'jpeg', 'png', 'webp', 'gif', 'tif', 'tiff', 'avif', 'heic']);
const textExtensions = ['txt', 'caption', 'json', 'cls'] as const;
type TextExtension = (typeof textExtensions)[number];
const jsonLimits: JsonLimits = { bytes: mostTextBytes, depth: 32, values: 2 ** 16 };

interface Place {
  readonly at: number;
  readonly size: number;
}

/** Where the files of a sample lie. */
interface Sample {
  readonly key: string;
  picture?: Place & { readonly name: string };
  text?: Place & { readonly extension: TextExtension };
}

/**
 * Captions are those of `.txt` (or `.caption`), else of `caption` or `captions` in `.json`, else the word in `.cls`. Other files are left
 * alone. A shard without any text is one of pictures alone.
 *
 * @throws MomeError `MOME_NOT_FOUND`; `MOME_INVALID_FILE` for other files and damaged ones; `MOME_TOO_LARGE`
 */
export async function openTar(path: string): Promise<Dataset> {
  const file = await InputFile.open(path, 'a tar file');
  try {
    const samples = await readSamples(file);
    const complete = samples.filter(({ picture }) => picture);
    check(
      complete.length > 0,
      'MOME_INVALID_FILE',
      `${path}: expected samples with a picture (${[...pictureExtensions].slice(0, 4).join(', ')}), got none`,
    );
    return datasetOfTar(file, complete);
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The pictures of a shard alone, one of each sample, in order. */
export interface TarPictures {
  /** Names as they stand in the shard, and bytes. */
  readonly pictures: readonly { readonly name: string; readonly size: number }[];
  /** The bytes of a picture. */
  read(index: number): Promise<Uint8Array>;
  /** Closes the file once running reads are done. */
  close(): void;
}

/** Opens a shard for its pictures; one without any is none. @throws MomeError as {@link openTar} */
export async function openTarPictures(path: string): Promise<TarPictures> {
  const file = await InputFile.open(path, 'a tar file');
  try {
    const pictures = (await readSamples(file)).flatMap(({ picture }) => picture ?? []);
    return {
      pictures,
      read: (index) => file.read(pictures[index]!.at, pictures[index]!.size),
      close: () => file.close(),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

function datasetOfTar(file: InputFile, samples: readonly Sample[]): Dataset {
  const { path } = file;
  const at = (index: number): Sample => {
    const sample = samples[index];
    check(sample, 'MOME_INVALID_ARGUMENT', `${path}: expected an index below ${samples.length}, got ${index}`);
    return sample;
  };
  const origin = (index: number) => `${path}: ${clip(at(index).key)}`;
  const textsOf = async (index: number): Promise<readonly string[]> => {
    const { text } = at(index);
    return text ? captionsOf(await file.read(text.at, text.size), text.extension, origin(index)) : [];
  };
  const self: Dataset = {
    length: samples.length,
    picturesPerItem: 1,
    async item(index, withPictures = true) {
      const { picture } = at(index);
      const texts = await textsOf(index);
      const pictures = withPictures ? [{ encoded: await file.read(picture!.at, picture!.size) }] : [];
      return { pictures, texts, group: index };
    },
    origin,
    async *itemTexts() {
      const pace = new Pace();
      for (let index = 0; index < samples.length; index++) {
        // A damaged text is told when its sample is read.
        yield await textsOf(index).catch(() => []);
        await pace.rest();
      }
    },
    async fingerprint() {
      const hash = createHash('sha256').update(`${file.size}`);
      for (const { key, picture } of samples) hash.update(`${key} ${picture!.size} ${picture!.at}\n`);
      await hashTexts(hash, self);
      return hash.digest('hex');
    },
    close: () => file.close(),
  };
  return self;
}

/** The samples of a shard, in order. */
async function readSamples(file: InputFile): Promise<Sample[]> {
  const samples: Sample[] = [];
  let current: Sample | undefined;
  await forEachFile(file, (name, { at, size }) => {
    const base = name.slice(name.lastIndexOf('/') + 1);
    const dot = base.indexOf('.');
    if (dot <= 0) return;
    const key = name.slice(0, name.length - base.length + dot);
    const extension = base.slice(dot + 1).toLowerCase();
    if (current?.key !== key) {
      check(samples.length < mostSamples, 'MOME_TOO_LARGE', `${file.path}: expected at most ${mostSamples} samples`);
      current = { key };
      samples.push(current);
    }
    const where = `${file.path}: ${clip(name)}`;
    if (pictureExtensions.has(extension)) {
      check(
        size <= mostPictureBytes,
        'MOME_TOO_LARGE',
        `${where}: expected at most ${mostPictureBytes} bytes, got ${size}`,
      );
      current.picture ??= { at, size, name };
    }
    const kind = textExtensions.find((each) => each === extension);
    if (!kind) return;
    check(size <= mostTextBytes, 'MOME_TOO_LARGE', `${where}: expected at most ${mostTextBytes} bytes, got ${size}`);
    const known = current.text?.extension;
    if (!known || textExtensions.indexOf(kind) < textExtensions.indexOf(known))
      current.text = { at, size, extension: kind };
  });
  return samples;
}

/** Calls `take` for the plain files of a tar file. All of it is read once. */
async function forEachFile(file: InputFile, take: (name: string, place: Place) => void): Promise<void> {
  const { path, size: end } = file;
  check(end > 0, 'MOME_INVALID_FILE', `${path}: expected a tar file, got an empty one`);
  refuseLfsPointer(await file.read(0, Math.min(end, 64)), path, 'a tar file');
  const extract = tar.extract();
  let last = 'the first header';
  extract.on('entry', (header, content, next) => {
    const { name, type } = header;
    const { size = 0, byteOffset: at } = header as typeof header & { readonly byteOffset: number };
    try {
      last = clip(name);
      check(
        Number.isSafeInteger(size) && at + size <= end,
        'MOME_INVALID_FILE',
        `${path}: expected ${last} inside the ${end} bytes of the file, got ${size} bytes at ${at}: the file is cut off`,
      );
      if (type === 'file' || type === 'contiguous-file') take(name, { at, size });
      content.resume();
      next();
    } catch (error) {
      extract.destroy(error as Error);
    }
  });
  try {
    await pipeline(Readable.from(file.pieces()), extract);
  } catch (error) {
    if (error instanceof MomeError) throw error;
    const message = `${path}: expected a tar file, got other bytes behind ${last} (a packed file must be unpacked first)`;
    throw new MomeError('MOME_INVALID_FILE', message, { cause: error });
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

async function captionsOf(bytes: Uint8Array, extension: TextExtension, origin: string): Promise<readonly string[]> {
  let text: string;
  try {
    text = utf8.decode(bytes).trim();
  } catch (error) {
    throw new MomeError('MOME_INVALID_FILE', `${origin}: expected text in UTF-8, got other bytes`, { cause: error });
  }
  if (extension !== 'json') return text === '' ? [] : [text];
  const value = await parseJson(text, origin, jsonLimits);
  const { caption, captions = caption } = (typeof value === 'object' && value !== null ? value : {}) as {
    readonly caption?: unknown;
    readonly captions?: unknown;
  };
  const list = Array.isArray(captions) ? captions : [captions];
  check(
    list.every((each) => typeof each === 'string'),
    'MOME_INVALID_FILE',
    `${origin}: expected "caption" or "captions" with texts, got another value`,
  );
  return list.map((each) => String(each).trim()).filter((each) => each !== '');
}
