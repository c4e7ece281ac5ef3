/**
 * `mome eval zero-shot`: how often a model names the class of a picture by the text that is nearest to it, without having learned the classes.
 */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { pictureKind } from '../image/formats.ts';
import type { Vlmo } from '../inference/index.ts';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { byCodeUnits, Pace } from '../runtime/pace.ts';

/** Texts for a class, whose name stands for `{}`. */
export const zeroShotTemplates: readonly string[] = [
  'a photo of a {}.',
  'a picture of a {}.',
  'an image of the {}.',
  '{}',
];

/** A picture with the class it belongs to. */
export interface LabelledPicture {
  readonly file: string;
  readonly class: string;
}

export interface ZeroShotEvaluation {
  readonly model: Vlmo;
  readonly pictures: readonly LabelledPicture[];
  /** Default: {@link zeroShotTemplates}. */
  readonly templates?: readonly string[];
  /** Names of classes for texts; one that is not there is its own name. */
  readonly names?: ReadonlyMap<string, string>;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
  /** Called for each picture in order. */
  readonly onPicture?: (result: ClassifiedPicture) => void;
}

/** How one picture went. */
export interface ClassifiedPicture extends LabelledPicture {
  /** The nearest class. */
  readonly best: string;
  /** Cosine to it. */
  readonly similarity: number;
  /** Place of the right class, counted from 1. Of equal cosines the class earlier in the order of names is first. */
  readonly rank: number;
}

/** Output of `mome eval zero-shot --json`. */
export interface ZeroShotReport {
  readonly pictures: number;
  readonly classes: number;
  /** Shares of the pictures whose class is the nearest, and among the five nearest. */
  readonly top1: number;
  readonly top5: number;
  /** Mean over classes of the share of their pictures whose class is the nearest. */
  readonly meanPerClass: number;
  /** That share of each class. */
  readonly perClass: Readonly<Record<string, number>>;
}

/** Pictures that are embedded by one call. */
const picturesAtOnce = 32;

/**
 * The pictures of a folder that has a subfolder for each class, in the order of their paths.
 *
 * @throws MomeError `MOME_NOT_FOUND` for another folder, or one without two classes of pictures
 */
export async function readClassFolders(folder: string): Promise<LabelledPicture[]> {
  const classes = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    throw new MomeError('MOME_NOT_FOUND', `${folder}: expected a folder with a subfolder for each class`, {
      cause: error,
    });
  });
  const pictures: LabelledPicture[] = [];
  for (const { name } of classes) {
    // (A folder may be a link to one.)
    if (!(await stat(path.join(folder, name)).catch(() => undefined))?.isDirectory()) continue;
    const entries = await readdir(path.join(folder, name), { recursive: true, withFileTypes: true });
    for (const entry of entries)
      if (!entry.isDirectory() && pictureKind(entry.name) === 'readable')
        pictures.push({ file: path.join(entry.parentPath, entry.name), class: name });
  }
  const found = new Set(pictures.map((picture) => picture.class)).size;
  check(found >= 2, 'MOME_NOT_FOUND', `${folder}: expected two subfolders with pictures or more, got ${found}`);
  return pictures.sort((a, b) => byCodeUnits(a.file, b.file));
}

/**
 * Classifies pictures. A class is the mean of the embeddings of its texts, one for each template, at length 1.
 *
 * @throws MomeError as `Vlmo.embedImages`; `MOME_INVALID_ARGUMENT` without pictures, or for templates without `{}`
 * @see arXiv 2103.00020, section 3.1.4, for the mean over templates
 */
export async function evaluateZeroShot(options: ZeroShotEvaluation): Promise<ZeroShotReport> {
  const { model, pictures, templates = zeroShotTemplates, names, signal, onProgress, onPicture } = options;
  check(pictures.length > 0, 'MOME_INVALID_ARGUMENT', 'evaluateZeroShot: expected at least one picture, got none');
  check(
    templates.length > 0 && templates.every((template) => template.includes('{}')),
    'MOME_INVALID_ARGUMENT',
    'evaluateZeroShot: expected templates with {} for the name of a class',
  );
  const classes = [...new Set(pictures.map((picture) => picture.class))].sort(byCodeUnits);
  const call = signal ? { signal } : {};
  const centres: Float32Array[] = [];
  for (const name of classes) {
    requireNotAborted(signal, 'evaluateZeroShot');
    const shown = names?.get(name) ?? name.replaceAll('_', ' ');
    const texts = templates.map((template) => template.replaceAll('{}', () => shown));
    centres.push(meanDirection((await model.embedTexts(texts, call)).embeddings, texts.length));
  }
  const places = new Map(classes.map((name, place) => [name, place]));
  const hits = classes.map(() => ({ right: 0, all: 0 }));
  const pace = new Pace();
  let top5 = 0;
  for (let first = 0; first < pictures.length; first += picturesAtOnce) {
    const part = pictures.slice(first, first + picturesAtOnce);
    const { embeddings } = await model.embedImages(
      part.map(({ file }) => file),
      call,
    );
    const width = embeddings.length / part.length;
    for (const [i, picture] of part.entries()) {
      const own = embeddings.subarray(i * width, (i + 1) * width);
      const similarities = centres.map((centre) => dot(own, centre));
      const place = places.get(picture.class)!;
      const rank =
        1 + similarities.filter((value, other) => isBefore(value, other, similarities[place]!, place)).length;
      const best = similarities.indexOf(Math.max(...similarities));
      hits[place]!.all++;
      if (rank === 1) hits[place]!.right++;
      if (rank <= 5) top5++;
      onPicture?.({ ...picture, best: classes[best]!, similarity: similarities[best]!, rank });
      await pace.rest();
    }
    onProgress?.(first + part.length, pictures.length);
  }
  const shares = hits.map(({ right, all }) => right / all);
  return {
    pictures: pictures.length,
    classes: classes.length,
    top1: hits.reduce((sum, { right }) => sum + right, 0) / pictures.length,
    top5: top5 / pictures.length,
    meanPerClass: shares.reduce((sum, share) => sum + share, 0) / shares.length,
    perClass: Object.fromEntries(classes.map((name, place) => [name, shares[place]!])),
  };
}

/** Whether a class stands before another: by a higher cosine, or by its name. */
const isBefore = (value: number, place: number, than: number, thanPlace: number): boolean =>
  value > than || (value === than && place < thanPlace);

function meanDirection(embeddings: Float32Array, count: number): Float32Array {
  const width = embeddings.length / count;
  const mean = new Float32Array(width);
  for (let i = 0; i < embeddings.length; i++) mean[i % width]! += embeddings[i]!;
  const length = Math.hypot(...mean) || 1;
  return mean.map((value) => value / length);
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}
