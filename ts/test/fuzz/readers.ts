/** Everything that reads files of other people, with small files that are well-formed. */
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { presets } from '../../src/architecture/config.ts';
import { parameterShapes } from '../../src/architecture/parameters.ts';
import {
  inspectCheckpoint,
  openCheckpoint,
  openModelFiles,
  readTensor,
  writeSafetensors,
} from '../../src/checkpoint/index.ts';
import { prepareImage } from '../../src/image/prepare.ts';
import { readIndex, writeIndex } from '../../src/search/index-file.ts';
import { loadTokenizer } from '../../src/text/tokenizer.ts';
import { openPairs } from '../../src/train/data/open-pairs.ts';
import { readRecipe } from '../../src/train/recipe.ts';
import { CaseTensors, readCaseConfig } from '../../src/verify/case-files.ts';
import { torchArchive } from '../checkpoint/torch-archive.ts';
import { bertTokenizerJson, golden, tinyVocabulary } from '../helpers.ts';

export interface Reader {
  readonly name: string;
  /** What the file is called; readers go by names and extensions. */
  readonly file: string;
  /** Well-formed files. */
  readonly seeds: (folder: string) => Promise<readonly Buffer[]>;
  /** Reads `path` and uses what it gave, as a program would. */
  readonly read: (path: string) => Promise<unknown>;
}

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const tiny = {
  ...presets.base,
  imageSize: 48,
  answers: 13,
  width: 8,
  heads: 2,
  layers: 2,
  firstVlLayer: 1,
  vocabularySize: 120,
};
const arch = {
  ...{ image_size: 48, patch_size: 16, embed_dim: 8, depth: 2, num_heads: 2, mlp_ratio: 4, vlffn_start_layer_index: 1 },
  ...{ use_abs_pos_emb: false, need_relative_position_embed: true, layer_scale_init_values: 0.1 },
  ...{ max_text_len: 40, max_text_len_of_initckpt: 196, vocab_size: 120, vqav2_label_size: 13 },
};

/** Tensors of the tiny model, all zero. */
const tensorsOf = (count: number) =>
  [...parameterShapes(tiny)].slice(0, count).map(([name, shape]) => ({
    name,
    dtype: 'F32' as const,
    shape,
    data: new Float32Array(shape.reduce((product, size) => product * size, 1)),
  }));

/** The tiny model, beside the folders of files. */
const wholeModel = 'whole.safetensors';

async function openAndRead(path: string): Promise<void> {
  const { entries } = await openCheckpoint(path);
  for (const entry of [...entries.values()].slice(0, 3)) await readTensor(entry);
  await inspectCheckpoint(path);
}

async function written(folder: string, write: (path: string) => Promise<unknown>): Promise<Buffer> {
  const path = join(folder, 'seed');
  await write(path);
  const bytes = await readFile(path);
  await rm(path);
  return bytes;
}

const bertJson = bertTokenizerJson(tinyVocabulary().slice(0, 24));
const sequence = { type: 'Sequence', normalizers: [{ type: 'NFD' }, { type: 'Lowercase' }, { type: 'StripAccents' }] };
const bpe = {
  type: 'BPE',
  unk_token: '[UNK]',
  vocab: { ...bertJson.model.vocab, ab: 30, b: 31 },
  merges: ['a b', 'a red'],
};
const unigram = {
  type: 'Unigram',
  unk_id: 1,
  vocab: tinyVocabulary()
    .slice(0, 20)
    .map((piece, i) => [piece, -i]),
};

async function useTokenizer(path: string): Promise<void> {
  const tokenizer = await loadTokenizer(path, { maxLength: 12 });
  const ids = tokenizer.encode('A réd [MASK] 猫\u{20000} squares, ab abab!');
  tokenizer.decode(ids);
  for (const id of ids) if (!Number.isInteger(id) || id < 0) throw new Error(`no id: ${id}`);
}

const pixels = sharp({ create: { width: 12, height: 9, channels: 3, background: '#468' } });
const index = { fingerprint: 'f'.repeat(32), config: { width: 8 } };

async function inFolder<T>(path: string, read: (folder: string) => Promise<T>): Promise<T> {
  return read(join(path, '..'));
}

export const readers: readonly Reader[] = [
  {
    name: 'PyTorch archives',
    file: 'model.pt',
    seeds: async () => [
      Buffer.from(
        torchArchive({
          'transformer.cls_token': {
            storage: 'FloatStorage',
            values: [1, 2, 3, 4],
            shape: [1, 1, 4],
            strides: [4, 4, 1],
          },
          b: { storage: 'HalfStorage', values: [1, 2, 3, 4], shape: [2, 2], strides: [1, 2] },
          c: { storage: 'LongStorage', values: [5], shape: [1], strides: [1] },
        }),
      ),
    ],
    read: openAndRead,
  },
  {
    name: 'safetensors',
    file: 'model.safetensors',
    seeds: async (folder) => [await written(folder, (path) => writeSafetensors(path, tensorsOf(12), { format: 'pt' }))],
    read: openAndRead,
  },
  {
    name: 'configurations',
    file: 'config.json',
    seeds: async (folder) => {
      await writeSafetensors(join(folder, wholeModel), tensorsOf(Number.POSITIVE_INFINITY));
      return [
        json({ modelType: 'vlmo', fusionWeight: 2, ...tiny }),
        json({ ...presets.base_plus }),
        json({ arch }),
        json(arch),
      ];
    },
    read: (path) =>
      inFolder(path, async (folder) => {
        await link(join(folder, '..', wholeModel), join(folder, 'model.safetensors')).catch(() => {});
        const config = await (await openModelFiles(folder)).readConfig();
        if (config) parameterShapes(config);
        await inspectCheckpoint(folder);
      }),
  },
  {
    name: 'answers',
    file: 'answers.json',
    seeds: async () => [json(['yes', 'no', 'é', '2'])],
    read: (path) =>
      inFolder(path, async (folder) => {
        await writeFile(join(folder, 'model.safetensors'), '');
        return openModelFiles(folder);
      }),
  },
  {
    name: 'tokenizer.json',
    file: 'tokenizer.json',
    seeds: async () => [
      json(bertJson),
      json({ ...bertJson, normalizer: sequence, pre_tokenizer: { type: 'WhitespaceSplit' } }),
      json({
        ...bertJson,
        model: bpe,
        pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false },
        decoder: { type: 'ByteLevel' },
      }),
      json({
        ...bertJson,
        model: unigram,
        pre_tokenizer: { type: 'Metaspace', replacement: '_' },
        decoder: { type: 'Metaspace' },
      }),
    ],
    read: useTokenizer,
  },
  {
    name: 'vocab.txt',
    file: 'vocab.txt',
    seeds: async () => [Buffer.from(tinyVocabulary().join('\n')), Buffer.from(`${tinyVocabulary().join('\r\n')}\r\n`)],
    read: useTokenizer,
  },
  {
    name: 'indexes',
    file: 'pictures.index',
    seeds: async (folder) => {
      const hash = '0123456789abcdef0123456789abcdef';
      const items = ['/a.png', '/é.jpg'].map((path) => ({ path, size: 3, modified: 4, changed: 5, hash }));
      return [
        await written(folder, (path) =>
          writeIndex(path, index, { root: '/', items, embeddings: new Float32Array(16) }),
        ),
      ];
    },
    read: (path) => readIndex(path, index),
  },
  {
    name: 'recipes',
    file: 'recipe.json',
    seeds: async () => [await readFile(new URL('../../../recipes/emoji-tiny-1.json', import.meta.url))],
    read: readRecipe,
  },
  {
    name: 'captions as JSON lines',
    file: 'captions.jsonl',
    seeds: async () => [Buffer.from('{"image":"a.png","caption":"a cat"}\n{"image":"b.png","captions":["b","c"]}\n')],
    read: (path) => openPairs(path, { size: 8, checkFiles: false }),
  },
  {
    name: 'captions as CSV',
    file: 'captions.csv',
    seeds: async () => [Buffer.from('image,caption\na.png,"a, ""cat"""\nb.png,b\n')],
    read: (path) => openPairs(path, { size: 8, checkFiles: false }),
  },
  {
    name: 'pictures',
    file: 'picture',
    seeds: async () => [
      await pixels.clone().png().toBuffer(),
      await pixels.clone().jpeg().toBuffer(),
      await pixels.clone().webp().toBuffer(),
      await pixels.clone().gif().toBuffer(),
      await pixels.clone().tiff().toBuffer(),
    ],
    read: async (path) => prepareImage(await readFile(path), 16),
  },
  {
    name: 'configurations of reference cases',
    file: 'config.json',
    seeds: async () => [await readFile(join(golden('tiny_relative'), 'config.json'))],
    read: (path) => inFolder(path, readCaseConfig),
  },
  {
    name: 'tensors of reference cases',
    file: 'outputs.safetensors',
    seeds: async (folder) => [await written(folder, (path) => writeSafetensors(path, tensorsOf(12)))],
    read: async (path) => {
      const tensors = await CaseTensors.open(path);
      for (const name of [...tensors.entries.keys()].slice(0, 3)) {
        await tensors.floats(name);
        await tensors.integers(name).catch(() => undefined);
      }
    },
  },
];

/** A folder of its own for each file, so that nothing of an earlier one is left. */
export async function placeFile(parent: string, reader: Reader, bytes: Buffer): Promise<string> {
  const folder = join(parent, 'case');
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  const path = join(folder, reader.file);
  await writeFile(path, bytes);
  return path;
}
