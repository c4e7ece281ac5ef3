/** Files beyond any model: each is refused by its code before it costs much, and without holding the event loop. */
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { configFromArch, configLimits, parseConfig, presets, type VlmoConfig } from '../../src/architecture/config.ts';
import {
  openCheckpoint,
  openModelFiles,
  openSafetensors,
  resizeAbsolutePositions,
  resizeRelativeTable,
  writeSafetensors,
} from '../../src/checkpoint/index.ts';
import { type ErrorCode, MomeError } from '../../src/runtime/errors.ts';
import { loadTokenizer } from '../../src/text/tokenizer.ts';
import { expectCode, temporaryFolder, tinyVocabulary, writerInto } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';
import { torchArchive } from './torch-archive.ts';

let folder = '';
beforeAll(async () => {
  folder = await temporaryFolder();
});
const put = writerInto(() => folder);

async function expectRefused(read: () => Promise<unknown>, code: ErrorCode): Promise<void> {
  const refused = await expectShortTurns(() =>
    read().then(
      () => undefined,
      (error: unknown) => error,
    ),
  );
  expect(refused).toBeInstanceOf(MomeError);
  expect((refused as MomeError).code).toBe(code);
  expect((refused as MomeError).message.length).toBeLessThan(2001);
}

describe('configurations', () => {
  const arch = {
    ...{ image_size: 224, patch_size: 16, embed_dim: 768, depth: 12, num_heads: 12, vlffn_start_layer_index: 10 },
    ...{ use_abs_pos_emb: false, need_relative_position_embed: true, max_text_len: 40 },
  };
  it.each([
    ['depth', 3e6],
    ['embed_dim', 2 ** 30],
    ['num_heads', 2 ** 20],
    ['mlp_ratio', 1000],
    ['image_size', 2 ** 20],
    ['patch_size', 2 ** 20],
    ['vlffn_start_layer_index', 1e9],
    ['max_text_len', 1e6],
    ['max_text_len_of_initckpt', 1e9],
    ['vocab_size', 1e9],
    ['vqav2_label_size', 1e9],
    ['depth', Number.POSITIVE_INFINITY],
    ['depth', 12.5],
    ['depth', -1],
  ])('of the original code with a %s of %d are refused', async (name, value) => {
    expect(configFromArch(arch).layers).toBe(12);
    await expectCode(() => configFromArch({ ...arch, [name]: value }), 'MOME_INVALID_CONFIG');
  });

  it.each<[string, Partial<VlmoConfig>]>([
    ['many patches', { imageSize: 4096, patchSize: 4 }],
    ['a large table', { imageSize: 4096, heads: 256, width: 4096, layers: 128 }],
    ['large positions', { imageSize: 4096, width: 4096, positions: 'absolute' }],
    ['very many parameters', { width: 8192, heads: 64, layers: 128, hiddenRatio: 16 }],
    ['many layers', { layers: configLimits.layers + 1 }],
  ])('of %s are refused', async (_, changes) => {
    await expectCode(() => parseConfig({ ...presets.base, ...changes }), 'MOME_INVALID_CONFIG');
  });

  it.each(Object.keys(presets) as (keyof typeof presets)[])('of the official %s stay far below', (name) => {
    expect(parseConfig({ ...presets[name], imageSize: 1024 }).imageSize).toBe(1024);
  });
});

describe('safetensors headers', () => {
  const fileOf = (json: string): Uint8Array => {
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(json.length));
    return Buffer.concat([prefix, Buffer.from(json)]);
  };
  const tensor = (name: string) => `"${name}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`;
  const tensors = (count: number) => Array.from({ length: count }, (_, i) => tensor(`transformer.blocks.${i}`)).join();
  const filled = (unit: string, bytes = 4 * 2 ** 20) => unit.repeat(Math.floor((bytes - 100) / unit.length));
  it.each<[string, ErrorCode, () => string]>([
    ['of many bytes', 'MOME_TOO_LARGE', () => `{"a":[${filled('1,', 2 ** 23)}1]}`],
    ['of numbers', 'MOME_TOO_LARGE', () => `{"a":[${filled('1,')}1]}`],
    ['of deep lists', 'MOME_TOO_LARGE', () => `{"a":${filled('[')}`],
    ['of deep objects', 'MOME_TOO_LARGE', () => `{"a":${filled('{"a":')}`],
    ['of empty objects', 'MOME_TOO_LARGE', () => `{"a":[${filled('{},')}1]}`],
    ['of very many tensors', 'MOME_TOO_LARGE', () => `{${tensors(2 ** 13 + 1)}}`],
    ['of a long name', 'MOME_TOO_LARGE', () => `{${tensor(filled('a', 2 ** 19))}}`],
    ['of a long type', 'MOME_INVALID_FILE', () => `{"a":{"dtype":"${filled('F', 2 ** 19)}"}}`],
    [
      'of many names in the metadata',
      'MOME_TOO_LARGE',
      () => `{"__metadata__":{${Array.from({ length: 2000 }, (_, i) => `"${i}":""`)}}}`,
    ],
    ['of spaces', 'MOME_INVALID_FILE', () => `{${filled(' ')}`],
  ])('%s are refused', async (_, code, json) => {
    const path = await put('header.safetensors', fileOf(json()));
    await expectRefused(() => openSafetensors(path), code);
  });

  it('of as many tensors as may be are read', async () => {
    const path = await put('many.safetensors', fileOf(`{${tensors(2 ** 13)}}`));
    expect((await expectShortTurns(() => openCheckpoint(path))).entries.size).toBe(2 ** 13);
  });

  it('that could not be read are not written', async () => {
    const named = { name: 'a'.repeat(1000), dtype: 'U8' as const, shape: [0], data: new Uint8Array() };
    await expectCode(() => writeSafetensors(join(folder, 'a.safetensors'), [named]), 'MOME_TOO_LARGE');
  });
});

it('names of megabytes in archives are refused in few words', async () => {
  const one = { storage: 'FloatStorage', values: [1], shape: [1], strides: [1] } as const;
  const path = await put('names.pt', torchArchive({ ['n'.repeat(2 ** 20)]: one }));
  await expectRefused(() => openCheckpoint(path), 'MOME_TOO_LARGE');
});

describe('answers and vocabularies', () => {
  const open = async (name: string, text: string) => {
    const path = await put(name, text);
    await put('model.safetensors', '');
    return name === 'answers.json' ? openModelFiles(folder) : loadTokenizer(path, { maxLength: 12 });
  };
  const lines = (count: number) =>
    [...tinyVocabulary(), ...Array.from({ length: count }, (_, i) => `p${i}`)].join('\n');
  it.each<[string, ErrorCode, string, () => string]>([
    ['answers of many bytes', 'MOME_TOO_LARGE', 'answers.json', () => `["${'a'.repeat(2 ** 22)}"]`],
    ['very many answers', 'MOME_TOO_LARGE', 'answers.json', () => `[${'"",'.repeat(2 ** 20)}""]`],
    ['deep answers', 'MOME_TOO_LARGE', 'answers.json', () => '['.repeat(2 ** 20)],
    ['a vocabulary of many bytes', 'MOME_TOO_LARGE', 'vocab.txt', () => 'a\n'.repeat(2 ** 22 + 1)],
    ['very many pieces', 'MOME_TOO_LARGE', 'vocab.txt', () => lines(2 ** 17)],
    ['empty lines', 'MOME_TOO_LARGE', 'vocab.txt', () => `${'\n'.repeat(2 ** 22)}a`],
    ['one long line', 'MOME_TOO_LARGE', 'vocab.txt', () => `${lines(1)}\n${'a'.repeat(2 ** 22)}`],
    ['a tokenizer.json of deep lists', 'MOME_TOO_LARGE', 'tokenizer.json', () => `{"model":${'['.repeat(2 ** 22)}`],
    [
      'a tokenizer.json of very many pieces',
      'MOME_TOO_LARGE',
      'tokenizer.json',
      () => `{"model":{"vocab":{${Array.from({ length: 2 ** 17 + 2 ** 14 }, (_, i) => `"p${i}":0`)}}}}`,
    ],
  ])('%s are refused', { timeout: 120_000 }, async (_, code, name, text) => {
    const content = text();
    await put(name, content);
    await expectRefused(() => open(name, content), code);
  });

  it('as many pieces as may be are read', { timeout: 120_000 }, async () => {
    const path = await put('vocab.txt', lines(2 ** 17 - 120));
    expect((await expectShortTurns(() => loadTokenizer(path, { maxLength: 12 }))).vocabularySize).toBe(2 ** 17);
  });
});

describe('positions', () => {
  it.each([128, 256])('are taken to %i patches a side without holding the loop', { timeout: 300_000 }, async (to) => {
    const absolute = Float32Array.from({ length: (1 + 14 * 14) * 256 }, (_, i) => Math.sin(i));
    expect((await expectShortTurns(() => resizeAbsolutePositions(absolute, 256, 14, to))).length).toBe(
      (1 + to * to) * 256,
    );
    const relative = Float32Array.from({ length: 27 * 27 + 397 }, (_, i) => Math.sin(i));
    expect((await expectShortTurns(() => resizeRelativeTable(relative, 1, 14, to))).length).toBe(
      (2 * to - 1) ** 2 + 397,
    );
  });

  it('are taken from 256 patches a side without holding the loop', { timeout: 300_000 }, async () => {
    const relative = Float32Array.from({ length: 511 * 511 }, (_, i) => Math.sin(i));
    await expectShortTurns(() => resizeRelativeTable(relative, 1, 256, 14));
  });
});
