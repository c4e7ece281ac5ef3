import { existsSync } from 'node:fs';
import { copyFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { configFromArch } from '../../src/architecture/config.ts';
import {
  convertCheckpoint,
  inferConfig,
  inspectCheckpoint,
  openCheckpoint,
  openSafetensors,
  readTensor,
  resizeAbsolutePositions,
  resizeRelativeTable,
  writeSafetensors,
} from '../../src/checkpoint/index.ts';
import { quantiseRows } from '../../src/checkpoint/quantise.ts';
import { toBfloat16 } from '../../src/checkpoint/tensors.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { readCaseConfig } from '../../src/verify/case-files.ts';
import { expectCode, golden, soonAborted, temporaryFolder, turnsDuring, writerInto } from '../helpers.ts';
import { type Pickled, torchArchive } from './torch-archive.ts';

let folder = '';
beforeAll(async () => {
  folder = await temporaryFolder();
});

const put = writerInto(() => folder);

describe('PyTorch archives', () => {
  it('are told apart by wrapper and prefix', async () => {
    const relative = await openCheckpoint(join(golden('tiny_relative'), 'weights.pt'));
    expect(relative).toMatchObject({ format: 'pytorch', wrapper: 'state_dict', prefix: '' });
    expect(relative.otherKeys).toEqual(expect.arrayContaining(['epoch', 'global_step']));
    const absolute = await openCheckpoint(join(golden('tiny_absolute'), 'weights.pt'));
    expect(absolute).toMatchObject({ wrapper: 'module', prefix: 'module.' });
    expect(absolute.entries.has('transformer.cls_token')).toBe(true);
    expect((await openCheckpoint(join(golden('beit_to_stage2'), 'weights.pt'))).wrapper).toBe('model');
  });

  it('are recognised under any file name', async () => {
    for (const name of ['wrong.safetensors', 'wrong.jpg']) {
      const path = join(folder, name);
      await copyFile(join(golden('tiny_relative'), 'weights.pt'), path);
      expect((await openCheckpoint(path)).format).toBe('pytorch');
    }
    const path = join(folder, 'really.pt');
    await copyFile(join(golden('tiny_relative'), 'outputs.safetensors'), path);
    expect((await openCheckpoint(path)).format).toBe('safetensors');
  });

  it.each([
    ['FloatStorage', [1, -2.5, 3, 0.25]],
    ['HalfStorage', [1, -2.5, 3, 0.25]],
    ['BFloat16Storage', [1, -2.5, 3, 0.25]],
    ['DoubleStorage', [1, -2.5, 3, 0.25]],
    ['LongStorage', [1, -2, 3, 4]],
  ] as const)('hold %s', async (storage, values) => {
    const path = await put(`${storage}.pt`, torchArchive({ a: { storage, values, shape: [2, 2], strides: [2, 1] } }));
    expect([...(await readTensor((await openCheckpoint(path)).entries.get('a')!))]).toEqual([...values]);
  });

  it('hold transposed tensors and parts of a storage', async () => {
    const values = [0, 1, 2, 3, 4, 5, 6, 7];
    const path = await put(
      'views.pt',
      torchArchive({
        transposed: { storage: 'FloatStorage', values, shape: [2, 4], strides: [1, 2] },
        part: { storage: 'FloatStorage', values, shape: [3], strides: [1], offset: 4 },
      }),
    );
    const { entries } = await openCheckpoint(path);
    expect([...(await readTensor(entries.get('transposed')!))]).toEqual([0, 2, 4, 6, 1, 3, 5, 7]);
    expect([...(await readTensor(entries.get('part')!))]).toEqual([4, 5, 6]);
  });

  it.each<[string, Pickled]>([
    ['outside its storage', { storage: 'FloatStorage', values: [1, 2], shape: [3], strides: [1] }],
    ['behind its storage', { storage: 'FloatStorage', values: [1, 2], shape: [1], strides: [1], offset: 2 }],
    ['with a huge stride', { storage: 'FloatStorage', values: [1, 2], shape: [2], strides: [2 ** 31 - 1] }],
    ['with a negative size', { storage: 'FloatStorage', values: [1, 2], shape: [-1], strides: [1] }],
    ['with fewer strides than sizes', { storage: 'FloatStorage', values: [1, 2], shape: [1, 2], strides: [1] }],
  ])('a tensor %s is refused', async (_, tensor) => {
    const path = await put('bad.pt', torchArchive({ bad: tensor }));
    await expectCode(() => openCheckpoint(path), 'MOME_INVALID_FILE');
  });

  it('never run code', async () => {
    const marker = join(folder, 'ran');
    const path = await put('evil.pt', torchArchive({}, { evil: ['posix', 'system', `touch ${marker}`] }));
    await openCheckpoint(path).catch((error: unknown) => expect(error).toBeInstanceOf(MomeError));
    await expect(readFile(marker)).rejects.toThrow();
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false);
  });

  it('that are damaged give a coded error, wherever', async () => {
    const good = new Uint8Array(await readFile(join(golden('beit_to_stage2'), 'weights.pt')));
    await fc.assert(
      fc.asyncProperty(
        fc.nat(good.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        async (at, change, cut) => {
          const bytes = cut ? good.slice(0, at) : good.slice();
          // Half of the changes go to the directory and the pickle, where they matter.
          const where = at % 2 === 0 ? at : good.length - 1 - (at % 20_000);
          if (!cut) bytes[where] = bytes[where]! ^ change;
          await hostile(await put('damaged.pt', bytes));
        },
      ),
      { numRuns: 150 },
    );
  });
});

/** Opens and reads everything; anything but a coded error fails. */
async function hostile(path: string): Promise<void> {
  try {
    const { entries } = await openCheckpoint(path);
    for (const entry of entries.values()) await readTensor(entry);
    await inspectCheckpoint(path);
  } catch (error) {
    if (!(error instanceof MomeError)) throw error;
  }
}

describe('safetensors', () => {
  it('come back as they were written', async () => {
    const path = join(folder, 'round.safetensors');
    const data = Float32Array.of(1, -2, 0.1, Number.NaN, 1e-40, 3e38);
    await writeSafetensors(
      path,
      [
        { name: 'f', dtype: 'F32', shape: [2, 3], data },
        { name: 'b', dtype: 'BF16', shape: [6], data },
        { name: 's', dtype: 'F32', shape: [], data: Float32Array.of(7) },
      ],
      { made: 'here' },
    );
    const { entries, metadata } = await openSafetensors(path);
    expect(metadata.made).toBe('here');
    expect(await readTensor(entries.get('f')!)).toEqual(data);
    expect(await readTensor(entries.get('s')!)).toEqual(Float32Array.of(7));
    const rounded = await readTensor(entries.get('b')!);
    expect(rounded[0]).toBe(1);
    expect(rounded[2]).toBeCloseTo(0.1, 3);
    expect(rounded[3]).toBeNaN();
  });

  it('are refused before anything is written when their header would be too large to read', async () => {
    const large = join(folder, 'large.safetensors');
    const metadata = { text: 'x'.repeat(4 * 2 ** 20) };
    await expectCode(() => writeSafetensors(large, [], metadata), 'MOME_TOO_LARGE');
    expect((await readdir(folder)).filter((name) => name.startsWith('large'))).toEqual([]);
  });

  it('round bfloat16 to nearest even', async () => {
    const bits = async (...values: number[]) => [
      ...(await toBfloat16(new Float32Array(Uint32Array.from(values).buffer))),
    ];
    expect(await bits(0x3f808000, 0x3f818000, 0x3f808001, 0x7f800001)).toEqual([0x3f80, 0x3f82, 0x3f81, 0x7fc0]);
  });

  const header = (json: string, body = 16): Uint8Array => {
    const text = Buffer.from(json);
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    return Buffer.concat([prefix, text, Buffer.alloc(body)]);
  };
  const tensor = (shape: string, offsets: string) => `{"a":{"dtype":"F32","shape":${shape},"data_offsets":${offsets}}}`;
  it.each([
    ['no JSON', header('{nothing')],
    ['a list', header('[1,2,3]')],
    ['a type without a name', header('{"a":{"dtype":"","shape":[1],"data_offsets":[0,4]}}')],
    ['offsets past the end', header(tensor('[100]', '[0,400]'))],
    ['offsets that do not fit the shape', header(tensor('[2]', '[0,4]'))],
    ['a negative size', header(tensor('[-1]', '[0,4]'))],
    ['a fractional size', header(tensor('[0.5]', '[0,2]'))],
    ['offsets backwards', header(tensor('[0]', '[4,0]'))],
    [
      'overlap',
      header(
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
      ),
    ],
    [
      'a header longer than the file',
      Buffer.concat([Buffer.from([255, 255, 0, 0, 0, 0, 0, 0, 123]), Buffer.alloc(32)]),
    ],
    ['nothing', new Uint8Array(0)],
  ])('with %s are refused', async (_, bytes) => {
    await expectCode(async () => openSafetensors(await put('bad.safetensors', bytes)), 'MOME_INVALID_FILE');
  });

  it('with absurd sizes are refused', async () => {
    const path = await put('huge.safetensors', header(tensor('[4294967296,4294967296]', '[0,4]')));
    await expectCode(() => openSafetensors(path), 'MOME_TOO_LARGE');
    const long = Buffer.alloc(64);
    long.writeBigUInt64LE(2n ** 62n);
    long[8] = 0x7b;
    await expectCode(async () => openSafetensors(await put('long.safetensors', long)), 'MOME_TOO_LARGE');
  });
});

describe('configurations', () => {
  it('are read off shapes', async () => {
    for (const name of ['tiny_relative', 'tiny_absolute'] as const) {
      const { arch } = await readCaseConfig(golden(name));
      const config = configFromArch(arch);
      const checkpoint = await openCheckpoint(join(golden(name), 'weights.pt'));
      const known = { heads: config.heads, maxTextLengthOfInit: config.maxTextLengthOfInit };
      expect(inferConfig(checkpoint, known)).toEqual(config);
    }
  });

  it('that shapes do not tell are asked for', async () => {
    const checkpoint = await openCheckpoint(join(golden('tiny_relative'), 'weights.pt'));
    await expectCode(() => inferConfig(checkpoint), 'MOME_INVALID_CONFIG');
  });
});

describe('long loops', () => {
  const rows = 1500;
  const data = Float32Array.from({ length: rows * 2000 }, (_, i) => Math.sin(i));
  it.each<[string, () => Promise<unknown>]>([
    ['rounding to int8', () => quantiseRows(data, rows)],
    ['rounding to bfloat16', () => toBfloat16(new Float32Array(2e7))],
    ['resizing', () => resizeRelativeTable(new Float32Array(27 * 27 * 192), 192, 14, 30)],
  ])('let other events run: %s', async (_, action) => {
    expect(await turnsDuring(action)).toBeGreaterThanOrEqual(1);
  });

  it('let other events run: reading a transposed tensor', async () => {
    const path = join(folder, 'long.safetensors');
    await writeSafetensors(path, [{ name: 'a', dtype: 'F32', shape: [rows, 2000], data }]);
    const entry = (await openSafetensors(path)).entries.get('a')!;
    // Opening and reading the file give a few turns, the loop one every 8 ms of hundreds.
    expect(await turnsDuring(() => readTensor({ ...entry, shape: [2000, rows], strides: [1, 2000] }))).toBeGreaterThan(
      10,
    );
  });
});

describe('inspect and convert', () => {
  it('explain and convert', async () => {
    const { arch } = await readCaseConfig(golden('tiny_absolute'));
    const target = join(folder, 'converted');
    const done = await convertCheckpoint(join(golden('tiny_absolute'), 'weights.pt'), target, {
      config: configFromArch(arch),
      dtype: 'bfloat16',
      maxTextLength: 8,
    });
    expect(done.missing).toEqual([]);
    expect(done.notes).toHaveLength(1);
    const report = await inspectCheckpoint(target);
    expect(report).toMatchObject({
      format: 'safetensors',
      kind: 'vlmo',
      configFrom: 'config.json',
      missing: [],
      unexpected: [],
      problem: null,
    });
    expect(report.config?.maxTextLength).toBe(8);
    expect([...report.types].sort()).toEqual(['BF16', 'F32']);
  });

  it('stop converting when told to', async () => {
    const source = join(golden('tiny_absolute'), 'weights.pt');
    const target = join(folder, 'stopped');
    await expectCode(() => convertCheckpoint(source, target, { signal: soonAborted() }), 'MOME_ABORTED');
    expect(existsSync(target)).toBe(false);
  });

  it('explain a file that holds something else', async () => {
    const report = await inspectCheckpoint(join(golden('preprocess'), 'resized.safetensors'));
    expect(report.kind).toBe('unknown');
    expect(report.problem).not.toBeNull();
  });
});

describe('positions', () => {
  it('stay where they are at the same size', async () => {
    const table = Float32Array.from({ length: (49 + 45) * 2 }, (_, i) => Math.sin(i));
    expect(await resizeRelativeTable(table, 2, 4, 4)).toEqual(table);
    const positions = Float32Array.from({ length: 17 * 3 }, (_, i) => Math.cos(i));
    expect(await resizeAbsolutePositions(positions, 3, 4, 4)).toEqual(positions);
  });

  it('that are constant stay constant', async () => {
    const table = new Float32Array((49 + 5) * 2).fill(3);
    for (const value of await resizeRelativeTable(table, 2, 4, 7)) expect(value).toBeCloseTo(3, 4);
    for (const value of await resizeAbsolutePositions(new Float32Array(17 * 2).fill(3), 2, 4, 6))
      expect(value).toBeCloseTo(3, 5);
  });

  it('of another shape are refused', async () => {
    await expectCode(() => resizeRelativeTable(new Float32Array(10), 2, 4, 5), 'MOME_INVALID_SHAPE');
    await expectCode(() => resizeAbsolutePositions(new Float32Array(10), 2, 4, 5), 'MOME_INVALID_SHAPE');
    await expectCode(() => resizeRelativeTable(new Float32Array(9 * 2), 2, 2, 5), 'MOME_UNSUPPORTED');
  });
});
