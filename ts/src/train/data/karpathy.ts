/**
 * Karpathy's split files, as COCO and Flickr30k are trained and measured with: one JSON file that names pictures, their captions and their
 * part of the set.
 */
import path from 'node:path';
import { z } from 'zod';
import { check, MomeError } from '../../runtime/errors.ts';
import { jsonItems } from '../../runtime/json-items.ts';
import type { PairItem } from './pair-files.ts';

/** COCO's file has 144 MB and 123,287 pictures; most of it are tokens of captions. */
const fileOptions = {
  list: 'images',
  leftOut: ['tokens', 'sentids', 'imgid', 'sentid'],
  depth: 16,
  bytes: 2 ** 29,
};
/** Most pictures of a file. */
const maxPictures = 10_000_000;
const maxCaptions = 1000;
const maxCaptionLength = 2 ** 16;

const name = z
  .string()
  .min(1)
  .max(4096)
  .refine((text) => !text.includes('\0'));
const pictureSchema = z.object({
  filename: name,
  filepath: z.string().max(4096).optional(),
  split: z.string().max(64),
  sentences: z
    .array(z.object({ raw: z.string().max(maxCaptionLength) }))
    .min(1)
    .max(maxCaptions),
});

/**
 * The items of one or more parts of a set, in the order of the file. A picture lies at `folder/filepath/filename`; where the file names no
 * `filepath`, as that of Flickr30k, at `folder/filename`.
 *
 * @param file such as `dataset_coco.json`
 * @param options.splits parts, such as `test`; unless named, `train` and, where the file has it, COCO's `restval`
 * @param options.folder where the pictures lie
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE` with the number of the picture, `MOME_TOO_LARGE`; `MOME_INVALID_ARGUMENT` for a
 *   part that the file does not have
 */
export async function readKarpathy(
  file: string,
  options: { readonly splits?: readonly string[]; readonly folder: string },
): Promise<PairItem[]> {
  const { splits = ['train', 'restval'], folder } = options;
  const items: PairItem[] = [];
  const known = new Map<string, number>();
  let index = 0;
  for await (const value of jsonItems(file, 'a split file', fileOptions)) {
    const origin = `${file}: image ${index++}`;
    check(index <= maxPictures, 'MOME_TOO_LARGE', `${origin}: expected at most ${maxPictures} pictures, got more`);
    const picture = pictureSchema.safeParse(value);
    if (!picture.success) {
      const issue = picture.error.issues[0];
      throw new MomeError(
        'MOME_INVALID_FILE',
        `${origin}: expected filename, split and sentences, got ${issue?.path.join('.') || 'another value'}: ${issue?.message}`,
        { cause: picture.error },
      );
    }
    const { filename, filepath = '', split, sentences } = picture.data;
    known.set(split, (known.get(split) ?? 0) + 1);
    if (!splits.includes(split)) continue;
    const captions = sentences.map(({ raw }) => raw.trim()).filter((raw) => raw !== '');
    check(captions.length > 0, 'MOME_INVALID_FILE', `${origin}: expected a caption of one character or more, got none`);
    items.push({ file: path.resolve(folder, filepath, filename), captions, origin });
  }
  for (const split of options.splits ?? ['train'])
    check(
      known.has(split),
      'MOME_INVALID_ARGUMENT',
      `${file}: expected one of the splits ${[...known.keys()].slice(0, 10).join(', ') || '(none)'}, got ${split}`,
    );
  return items;
}
