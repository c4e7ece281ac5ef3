/**
 * The official VLMo files by name. No checksum or exact size of the weights has been published: the first download records both.
 */
import { MomeError } from '../runtime/errors.ts';

/** A file to download. */
export interface RemoteFile {
  /** Its name at the source, at a mirror and on disk. */
  readonly file: string;
  readonly url: string;
  /** Exact size in bytes, where one has been published. */
  readonly bytes?: number;
  /** SHA-256 in hexadecimal, where one has been published. */
  readonly sha256?: string;
}

/** A model that can be had by its name. */
export interface RegisteredModel {
  readonly name: string;
  readonly description: string;
  /** Millions of parameters, as the official page says; a file holds about 4 bytes for each. */
  readonly millions: number;
  readonly weights: RemoteFile;
  readonly vocabulary: RemoteFile;
}

const releases = 'https://github.com/wenhui0924/vlmo_ckpts/releases/download/vlmo';
/** The word pieces that the original code asks for, at a revision whose checksum is public. */
const vocabulary: RemoteFile = {
  file: 'vocab.txt',
  url: 'https://huggingface.co/google-bert/bert-base-uncased/resolve/86b5e0934494bd15c9632b12f734a8a67f723594/vocab.txt',
  bytes: 231_508,
  sha256: '07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3',
};

const sizes = [
  ['base', 'base', 175],
  ['base-plus', 'base_plus', 167],
  ['large', 'large', 562],
] as const;
const kinds = [
  ['', '224', 'pre-trained on pictures with texts, pictures of 224 pixels'],
  ['-stage2', '224_stage2', 'pre-trained on pictures, then on texts: to go on training'],
  ['-coco', '384_coco', 'search, tuned on COCO, pictures of 384 pixels'],
  ['-f30k', '384_f30k', 'search, tuned on Flickr30K, pictures of 384 pixels'],
  ['-vqa', '480_vqa', 'questions, tuned on VQA v2, pictures of 480 pixels'],
  ['-nlvr2', '384_nlvr2', 'statements about two pictures, tuned on NLVR2, pictures of 384 pixels'],
] as const;

/** All models that can be had by name. */
export const registry: ReadonlyMap<string, RegisteredModel> = new Map(
  sizes.flatMap(([size, fileSize, millions]) =>
    kinds.map(([ending, fileEnding, description]) => {
      const name = `vlmo-${size}${ending}`;
      const file = `vlmo_${fileSize}_patch16_${fileEnding}.pt`;
      return [
        name,
        { name, description, millions, weights: { file, url: `${releases}/${file}` }, vocabulary },
      ] as const;
    }),
  ),
);

/** @throws MomeError `MOME_NOT_FOUND` with the names that are near */
export async function registered(where: string, name: string): Promise<RegisteredModel> {
  const found = registry.get(name);
  if (found) return found;
  throw new MomeError('MOME_NOT_FOUND', `${where}: expected the name of a model, got ${name}${await nearNames(name)}`);
}

/** "; did you mean ...?", or where the list of names is. */
export async function nearNames(name: string): Promise<string> {
  const { distance } = await import('fastest-levenshtein');
  const lower = name.slice(0, 40).toLowerCase();
  const near = [...registry.keys()]
    .map((each) => ({ each, edits: distance(lower, each) }))
    .filter(({ edits }) => edits <= 4)
    .sort((a, b) => a.edits - b.edits)
    .slice(0, 3);
  return near.length > 0
    ? `; did you mean ${near.map(({ each }) => each).join(', ')}?`
    : '; "mome models" lists the names';
}
