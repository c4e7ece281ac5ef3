/** What may lie in place of a model's files, and what may happen to them while they are read. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { copyFile, cp, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  convertCheckpoint,
  openCheckpoint,
  openModelFiles,
  openSafetensors,
  readTensor,
  type TensorToWrite,
  writeSafetensors,
} from '../../src/checkpoint/index.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { type ErrorCode, MomeError } from '../../src/runtime/errors.ts';
import { loadTokenizer } from '../../src/text/tokenizer.ts';
import { openPairs } from '../../src/train/data/open-pairs.ts';
import { readRecipe } from '../../src/train/recipe.ts';
import { readCaseConfig } from '../../src/verify/case-files.ts';
import { verifyCase } from '../../src/verify/index.ts';
import { expectCode, golden, temporaryFolder, tinyAnswers, tinyModel } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';

let folder = '';
let source = '';
beforeAll(async () => {
  folder = await temporaryFolder();
  source = await tinyModel();
});

let copies = 0;
async function copyOfModel(): Promise<string> {
  const copy = join(folder, `copy-${copies++}`);
  await cp(source, copy, { recursive: true });
  return copy;
}

const load = async (path: string): Promise<void> => (await Vlmo.load(path, { threads: 1 })).dispose();
const parts = ['model.safetensors', 'config.json', 'vocab.txt', 'answers.json'] as const;

describe('in place of a file of a model', () => {
  const things: readonly [string, (path: string) => unknown, ErrorCode, RegExp][] = [
    ['a named pipe', (path) => execFileSync('mkfifo', [path]), 'MOME_INVALID_FILE', /got a named pipe/],
    ['a device', (path) => symlink('/dev/zero', path), 'MOME_INVALID_FILE', /got a device/],
    ['a folder', (path) => mkdir(path), 'MOME_INVALID_FILE', /got a folder/],
    ['a dangling link', (path) => symlink(join(folder, 'nowhere'), path), 'MOME_NOT_FOUND', /a link to nothing/],
    ['a link to itself', (path) => symlink(path, path), 'MOME_IO', /ELOOP/],
    [
      'a Git LFS pointer',
      (path) => writeFile(path, `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 99\n`),
      'MOME_INVALID_FILE',
      /Git LFS pointer/,
    ],
  ];
  it.each(parts.flatMap((part) => things.map(([name, make, code, message]) => ({ name, part, make, code, message }))))(
    '$name as $part is refused',
    async ({ part, make, code, message }) => {
      const copy = await copyOfModel();
      await rm(join(copy, part));
      await make(join(copy, part));
      expect((await expectCode(() => load(copy), code)).message).toMatch(message);
    },
  );

  it('a named pipe is refused wherever a file is read', async () => {
    const pipe = join(folder, 'config.json');
    execFileSync('mkfifo', [pipe]);
    const jsonl = join(folder, 'pairs.jsonl');
    execFileSync('mkfifo', [jsonl]);
    for (const read of [
      () => openCheckpoint(pipe),
      () => openSafetensors(pipe),
      () => loadTokenizer(pipe, { maxLength: 8 }),
      () => readRecipe(pipe),
      () => readCaseConfig(folder),
      () => verifyCase(folder),
      () => openPairs(jsonl, { size: 32 }),
    ])
      expect((await expectCode(read, 'MOME_INVALID_FILE')).message).toMatch(/named pipe/);
  });

  it('texts with a byte order mark are read, those in UTF-16 refused', async () => {
    const copy = await copyOfModel();
    const mark = Buffer.from([0xef, 0xbb, 0xbf]);
    for (const part of ['config.json', 'vocab.txt', 'answers.json'])
      await writeFile(join(copy, part), Buffer.concat([mark, await readFile(join(copy, part))]));
    const [marked, plain] = [await Vlmo.load(copy, { threads: 1 }), await Vlmo.load(source, { threads: 1 })];
    expect(await marked.embedTexts(['red square'])).toEqual(await plain.embedTexts(['red square']));
    await marked.dispose();
    await plain.dispose();
    const text = await readFile(join(source, 'config.json'), 'utf8');
    await writeFile(join(copy, 'config.json'), Buffer.from(`\ufeff${text}`, 'utf16le'));
    expect((await expectCode(() => load(copy), 'MOME_INVALID_FILE')).message).toMatch(/UTF-16/);
  });

  it('another vocabulary or configuration makes another model', async () => {
    const fingerprints: string[] = [];
    for (const [part, from, to] of [
      ['vocab.txt', '', ''],
      ['vocab.txt', 'red', 'rot'],
      ['config.json', '"layerScale": 0.1', '"layerScale": 0.2'],
    ] as const) {
      const copy = await copyOfModel();
      const text = await readFile(join(copy, part), 'utf8');
      expect(text).toContain(from);
      await writeFile(join(copy, part), text.replace(from, to));
      const model = await Vlmo.load(copy, { threads: 1 });
      fingerprints.push(model.fingerprint);
      await model.dispose();
    }
    expect(new Set(fingerprints).size).toBe(3);
  });

  it('a path that leads nowhere is told from nothing', async () => {
    const [dangling, itself] = [join(folder, 'dangling'), join(folder, 'itself')];
    await symlink(join(folder, 'nowhere'), dangling);
    await symlink(itself, itself);
    expect((await expectCode(() => load(dangling), 'MOME_NOT_FOUND')).message).toMatch(/a link to nothing/);
    expect((await expectCode(() => load(itself), 'MOME_IO')).message).toMatch(/ELOOP/);
    expect((await expectCode(() => load(join(folder, 'none')), 'MOME_NOT_FOUND')).message).toMatch(/found nothing/);
  });

  it('a text in another encoding is refused', async () => {
    for (const [part, text] of [
      ['vocab.txt', (await readFile(join(source, 'vocab.txt'), 'utf8')).replace('word30', 'w\xf6rd')],
      ['answers.json', JSON.stringify(tinyAnswers).replace('yes', 's\xed')],
      ['config.json', (await readFile(join(source, 'config.json'), 'utf8')).replace('vlmo', 'vlm\xf6')],
    ] as const) {
      const copy = await copyOfModel();
      await writeFile(join(copy, part), Buffer.from(text, 'latin1'));
      expect((await expectCode(() => load(copy), 'MOME_INVALID_FILE')).message).toMatch(/in UTF-8, got other bytes/);
    }
  });

  it('very many other files hold the loop shortly', async () => {
    const copy = await copyOfModel();
    for (let i = 0; i < 60_000; i++) closeSync(openSync(join(copy, `a-picture-of-something-${i}.jpg`), 'w'));
    await expectShortTurns(async () => (await openModelFiles(copy)).close());
  });

  it('files that vanish and come back give the model or a code', async () => {
    const copy = await copyOfModel();
    let done = false;
    const churn = (async () => {
      for (let i = 0; !done; i++) {
        const part = parts[i % parts.length]!;
        await rm(join(copy, part), { force: true });
        await copyFile(join(source, part), join(copy, part)).catch(() => {});
      }
    })();
    for (let i = 0; i < 25; i++) {
      await load(copy).catch((error: unknown) => expect(error).toBeInstanceOf(MomeError));
    }
    done = true;
    await churn;
  });
});

describe('weights', () => {
  const change = async (name: string, place: (values: Float32Array) => void, dtype: 'F32' | 'BF16' = 'F32') => {
    const copy = await copyOfModel();
    const { entries } = await openSafetensors(join(source, 'model.safetensors'));
    const tensors: TensorToWrite[] = [];
    for (const entry of entries.values()) {
      const data = await readTensor(entry);
      if (entry.name === name) place(data);
      tensors.push({ name: entry.name, dtype: entry.shape.length > 1 ? dtype : 'F32', shape: entry.shape, data });
    }
    await writeSafetensors(join(copy, 'model.safetensors'), tensors);
    return copy;
  };
  const places: readonly [string, number, number][] = [
    ['text_embeddings.word_embeddings.weight', 0, Number.NaN],
    ['transformer.blocks.0.mlp_imag.fc2.weight', 777, Number.POSITIVE_INFINITY],
    ['relative_position_bias_table', 5, Number.NEGATIVE_INFINITY],
    ['mlm_score.decoder.weight', -1, Number.NaN],
    ['logit_scale', 0, Number.NaN],
  ];
  it.each(places)('that are not finite are named: %s', async (name, at, value) => {
    for (const dtype of ['F32', 'BF16'] as const) {
      let index = at;
      const copy = await change(
        name,
        (values) => {
          index = at < 0 ? values.length + at : at;
          values[index] = value;
        },
        dtype,
      );
      const { message } = await expectCode(() => load(copy), 'MOME_NON_FINITE');
      expect(message).toContain(`${name}: expected finite values, got ${value} at index ${index} of`);
      // Also where the tensor is made anew on the way.
      await expectCode(() => Vlmo.load(copy, { threads: 1, imageSize: 64 }), 'MOME_NON_FINITE');
      await expectCode(() => convertCheckpoint(copy, join(folder, 'never')), 'MOME_NON_FINITE');
    }
  });

  it('of half precision and scales of 8-bit rows that are not finite are named', async () => {
    const { entries } = await openSafetensors(join(source, 'model.safetensors'));
    const name = 'transformer.blocks.0.attn.qkv.weight';
    const eight = join(folder, 'eight');
    await convertCheckpoint(source, eight, { dtype: 'int8' });
    const path = join(eight, 'model.safetensors');
    const { offset } = (await openSafetensors(path)).entries.get(`${name}.scale`)!;
    const bytes = await readFile(path);
    bytes.writeFloatLE(Number.POSITIVE_INFINITY, offset + 8);
    await writeFile(path, bytes);
    const { message } = await expectCode(() => load(eight), 'MOME_NON_FINITE');
    expect(message).toContain(`${name}.scale: expected finite values, got Infinity at index 2 `);

    const copy = await copyOfModel();
    const half = { dtype: 'F16', shape: entries.get(name)!.shape, data_offsets: [0, 0] };
    const weights = await readFile(join(copy, 'model.safetensors'));
    const headerBytes = Number(weights.readBigUInt64LE());
    const header = JSON.parse(weights.toString('utf8', 8, 8 + headerBytes)) as Record<string, unknown>;
    const count = half.shape.reduce((product, size) => product * size, 1);
    const body = weights.subarray(8 + headerBytes);
    half.data_offsets = [body.length, body.length + 2 * count];
    header[name] = half;
    const values = Buffer.alloc(2 * count);
    values.writeUInt16LE(0xfc00, 2 * 4099);
    const text = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    await writeFile(join(copy, 'model.safetensors'), Buffer.concat([length, text, body, values]));
    expect((await expectCode(() => load(copy), 'MOME_NON_FINITE')).message).toContain(
      `${name}: expected finite values, got -Infinity at index 4099 of`,
    );
  });

  it('of two models that take turns under one name are never mixed', async () => {
    const other = await change('itc_text_proj.fc.weight', (values) => values.reverse());
    const served = await copyOfModel();
    const target = join(served, 'model.safetensors');
    const expected = new Map<string, Float32Array>();
    for (const each of [source, other]) {
      const model = await Vlmo.load(each, { threads: 1 });
      expected.set(model.fingerprint, (await model.embedTexts(['red square'])).embeddings);
      await model.dispose();
    }
    expect(expected.size).toBe(2);
    let done = false;
    let renames = 0;
    const deploy = (async () => {
      while (!done) {
        const next = join(folder, 'next.safetensors');
        await copyFile(join(renames % 2 ? source : other, 'model.safetensors'), next);
        await rename(next, target);
        renames++;
      }
    })();
    const seen = new Set<string>();
    for (let i = 0; i < 40; i++) {
      const model = await Vlmo.load(served, { threads: 1 });
      // The programs that pack the weights are made now, after some renames.
      const { embeddings } = await model.embedTexts(['red square']);
      expect(embeddings).toEqual(expected.get(model.fingerprint));
      seen.add(model.fingerprint);
      await model.dispose();
    }
    done = true;
    await deploy;
    expect(renames).toBeGreaterThan(40);
    expect(seen.size).toBe(2);
  });

  it('that somebody writes into while they are read are refused', async () => {
    const copy = await copyOfModel();
    const checkpoint = await openCheckpoint(join(copy, 'model.safetensors'));
    await writeFile(checkpoint.path, await readFile(checkpoint.path));
    await expectCode(() => checkpoint.file.requireUnchanged(), 'MOME_IO');
  });

  it('of a reference case with two token types pass', async () => {
    const own = join(folder, 'case');
    await cp(golden('tiny_relative'), own, { recursive: true });
    const { entries } = await openCheckpoint(join(own, 'weights.pt'));
    const tensors: TensorToWrite[] = [];
    for (const [name, entry] of entries) {
      if (name.startsWith('nlvr2_') || entry.dtype !== 'F32') continue;
      const data = await readTensor(entry);
      const width = entry.shape.at(-1)!;
      const isTypes = name === 'token_type_embeddings.weight';
      const shape = isTypes ? [2, width] : entry.shape;
      tensors.push({ name, dtype: 'F32', shape, data: isTypes ? data.slice(0, 2 * width) : data });
    }
    await writeSafetensors(join(own, 'weights.pt'), tensors);
    // What such a file cannot give, and rows that it does not have.
    for (const file of ['outputs', 'grads', 'training']) {
      const path = join(own, `${file}.safetensors`);
      const kept: TensorToWrite[] = [];
      for (const [name, entry] of (await openSafetensors(path)).entries) {
        if (/nlvr2/.test(name)) continue;
        const data = await readTensor(entry);
        const width = entry.shape.at(-1)!;
        const isTypes = /(?:^|\/)token_type_embeddings/.test(name);
        const shape = isTypes ? [2, width] : entry.shape;
        kept.push({ name, dtype: 'F32', shape, data: isTypes ? data.slice(0, 2 * width) : data });
      }
      await writeSafetensors(path, kept);
    }
    const report = await verifyCase(own);
    expect(report.checks.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.checks.some(({ name }) => name === 'itc/token_type_embeddings.weight')).toBe(true);
    expect(report.checks.some(({ name }) => name === 'training/final/token_type_embeddings.weight')).toBe(true);
  });
});
