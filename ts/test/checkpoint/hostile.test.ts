/** Small files that would cost much: each is refused by a code, and soon. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import pickleparser from 'pickleparser';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { parseConfig, presets } from '../../src/architecture/config.ts';
import {
  inspectCheckpoint,
  openCheckpoint,
  readTensor,
  resizeAbsolutePositions,
  resizeRelativeTable,
  writeSafetensors,
} from '../../src/checkpoint/index.ts';
import { takeParameters } from '../../src/checkpoint/parameters.ts';
import { guardPickle } from '../../src/checkpoint/pickle-guard.ts';
import { type ErrorCode, MomeError } from '../../src/runtime/errors.ts';
import { expectCode, golden, temporaryFolder, writerInto } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';
import { torchArchive, zip } from './torch-archive.ts';

let folder = '';
beforeAll(async () => {
  folder = await temporaryFolder();
});

const put = writerInto(() => folder);

const latin = (text: string): Buffer => Buffer.from(text, 'latin1');
const archiveOf = (pickle: Buffer): Uint8Array => zip([['archive/data.pkl', pickle]]);
/** A text of a pickle. */
const text = (value: string): string => `X${String.fromCharCode(value.length)}\0\0\0${value}`;

describe('pickles', () => {
  it.each<[string, ErrorCode, string]>([
    ['bytes of a negative length', 'MOME_INVALID_FILE', 'B\xfb\xff\xff\xff'],
    ['bytes past the end', 'MOME_INVALID_FILE', 'B\xff\xff\xff\x7f'],
    ['a text past the end', 'MOME_INVALID_FILE', 'X\xff\xff\xff\xffa.'],
    ['a text without its length', 'MOME_INVALID_FILE', 'X\xff'],
    ['a long of 4 length bytes', 'MOME_INVALID_FILE', '\x8b\0\0\0\x01'],
    ['a long past the end', 'MOME_INVALID_FILE', `\x8a\xff${'\x01'.repeat(254)}`],
    ['64-bit lengths', 'MOME_INVALID_FILE', '\x8e\xff\xff\xff\xff\xff\xff\xff\xff'],
    ['a list of instances', 'MOME_INVALID_FILE', '(iposix\nsystem\n.'],
    ['a dictionary of objects', 'MOME_INVALID_FILE', `(${text('__proto__')}Nd.`],
    ['an extension', 'MOME_INVALID_FILE', '\x82\x01.'],
    ['an out-of-band buffer', 'MOME_INVALID_FILE', '\x97.'],
    ['a global without its second line', 'MOME_INVALID_FILE', 'ctorch\nFloatStorage'],
    ['an unknown opcode', 'MOME_INVALID_FILE', '\xff.'],
    ['no end', 'MOME_INVALID_FILE', '\x80\x02}'],
    ['an end of a container that never began', 'MOME_INVALID_FILE', '}u.'],
    ['a million dictionaries', 'MOME_TOO_LARGE', `${'}'.repeat(2 ** 18)}.`],
    ['very many globals', 'MOME_TOO_LARGE', `${'c\n\n'.repeat(20_000)}.`],
    ['very many warnings', 'MOME_TOO_LARGE', `${`\x8a\x08${'\xff'.repeat(8)}`.repeat(20_000)}.`],
    ['deep containers', 'MOME_TOO_LARGE', `${'('.repeat(1001)}${'t'.repeat(1001)}.`],
  ])('with %s are refused before they are read', async (_, expected, pickle) => {
    await expectCode(() => guardPickle(latin(pickle), 'a.pt'), expected);
    const path = await put('planted.pt', archiveOf(latin(pickle)));
    await expectCode(() => openCheckpoint(path), expected);
  });

  it.each([
    ['a shared list of arguments', `(${'N'.repeat(40_000)}tq\0c a\nb\nq\x01${'h\x01h\0R'.repeat(30_000)}.`],
    [
      'a shared list of pairs',
      `]q\0(${'NN\x86'.repeat(1000)}eccollections\nOrderedDict\nq\x01h\0\x85R${'h\x01h\0\x85R'.repeat(9000)}.`,
    ],
    ['a name of lists in lists', `)q\0${'h\0h\0\x86q\0'.repeat(60)}h\0h\0\x93.`],
    ['a key of lists in lists', `(${text('storage')}ctorch\nFloatStorage\n)q\0${'h\0h\0\x86q\0'.repeat(60)}NNtQ.`],
  ])('with %s cost little', async (_, pickle) => {
    const path = await put('shared.pt', archiveOf(latin(pickle)));
    await expectCode(() => openCheckpoint(path), 'MOME_INVALID_FILE');
  });

  /** Opens an archive of one tensor, `a`, with `entries` before it in the dictionary. */
  async function openBeside(entries: string) {
    const good = Buffer.from(torchArchive({ a: { storage: 'FloatStorage', values: [1], shape: [1], strides: [1] } }));
    const start = good.indexOf('\x80\x02}(', 0, 'latin1');
    const pickle = good.subarray(start, good.indexOf('u.', start) + 2);
    const value = Buffer.alloc(4);
    value.writeFloatLE(1);
    const path = await put(
      'beside.pt',
      zip([
        ['a/data.pkl', Buffer.concat([latin(`\x80\x02}(${entries}`), pickle.subarray(4)])],
        ['a/data/0', value],
      ]),
    );
    const opened = await openCheckpoint(path);
    expect([...(await readTensor(opened.entries.get('a')!))]).toEqual([1]);
    return opened;
  }

  it('with keys of lists in lists are shown shortly', async () => {
    expect((await openBeside(`)q\x000${'h\0h\0\x86q\x000'.repeat(60)}h\0N`)).otherKeys).toEqual(['(object)']);
  });

  it.each(['__builtin__', 'builtins'])(
    'may make objects of a class inside a class, which %s.getattr finds',
    async (module) => {
      const made = `c${module}\ngetattr\n(cmine\nOuter\n${text('Inner')}tR)\x81}b`;
      expect((await openBeside(`${text('x')}${made}`)).otherKeys).toEqual(['x']);
    },
  );

  it('cannot change an object that was made', async () => {
    const good = Buffer.from(torchArchive({ a: { storage: 'FloatStorage', values: [1], shape: [1], strides: [1] } }));
    const start = good.indexOf('\x80\x02}(', 0, 'latin1');
    const pickle = good.subarray(start, good.indexOf('u.', start));
    const state = `}${text('shape')}(J\xff\xff\xff\x7ftsb`;
    const path = await put(
      'state.pt',
      zip([
        ['a/data.pkl', Buffer.concat([pickle, latin(`${state}u.`)])],
        ['a/data/0', Buffer.alloc(4)],
      ]),
    );
    expect((await openCheckpoint(path)).entries.get('a')!.shape).toEqual([1]);
  });

  it('that pass are read with the same lengths, whatever they hold', () => {
    const resolve = () => function Made() {};
    const options = { nameResolver: { resolve }, persistentResolver: { resolve } };
    const opcodes = [...'(.0Nt)]}aesuQRbqrhjKMJGXBCc\x80\x81\x85\x86\x87\x88\x89\x8a\x8c\x8f\x90\x91\x93\x94\x95'].map(
      latin,
    );
    // Arguments that may be opcodes: a length that is off by one is seen at the next.
    const byte = fc.oneof(fc.nat(12), fc.constantFrom(...opcodes.map(([code = 0]) => code)));
    const piece = fc.tuple(
      fc.constantFrom(...opcodes),
      fc.array(byte, { maxLength: 9 }).map((bytes) => Uint8Array.from(bytes)),
    );
    const warn = vi.spyOn(console, 'warn').mockReturnValue();
    let passed = 0;
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const bytes = Buffer.concat([...pieces.flat(), latin('.')]);
        let guarded: Uint8Array;
        try {
          guarded = guardPickle(bytes, 'a.pt');
        } catch (error) {
          expect(error).toBeInstanceOf(MomeError);
          return;
        }
        passed++;
        try {
          new pickleparser.Parser(options).parse(guarded);
        } catch (error) {
          expect(String(error)).not.toMatch(/more bytes|end of (?:line|file)|Unsupported opcode|too large/);
        }
      }),
      { numRuns: 3000 },
    );
    warn.mockRestore();
    expect(passed).toBeGreaterThan(100);
  });

  it('that torch wrote pass as they are', async () => {
    for (const name of ['tiny_relative', 'tiny_absolute', 'beit_to_stage2']) {
      const file = await readFile(join(golden(name), 'weights.pt'));
      const start = file.indexOf('\x80\x02}', 0, 'latin1');
      expect(start).toBeGreaterThan(0);
      const pickle = file.subarray(start);
      expect([...guardPickle(pickle, name).subarray(0, 4000)]).toEqual([...pickle.subarray(0, 4000)]);
      expect((await openCheckpoint(join(golden(name), 'weights.pt'))).entries.size).toBeGreaterThan(40);
    }
  });

  it('of many megabytes are refused', async () => {
    const path = await put('large.pt', archiveOf(Buffer.alloc(4 * 2 ** 20 + 1, 'N')));
    await expectCode(() => openCheckpoint(path), 'MOME_TOO_LARGE');
  });

  it.each([
    ['dictionaries', '}', 8],
    ['lists', ']', 2],
    ['sets', '\x8f', 8],
    ['numbers', 'K\x01', 1],
    ['tuples in tuples', '\x85', 2],
    ['texts', 'X\x04\0\0\0abcd', 6],
    ['long texts', `X\0\x10\0\0${'a'.repeat(4096)}`, 280],
    ['memos', '\x94', 4],
    ['calls', 'h\0)R', 4],
  ])('hold the loop shortly for as many %s as may be', async (_, piece, steps) => {
    const count = Math.floor((200_000 - 600) / steps);
    const path = await put('long.pt', archiveOf(latin(`\x80\x02ca\nb\nq\0)${piece.repeat(count)}.`)));
    const opened = await expectShortTurns(() => openCheckpoint(path).catch((error: MomeError) => error));
    expect((opened as MomeError).code).toBe('MOME_INVALID_FILE');
  });

  it('in an archive that is cut off are refused saying so', async () => {
    const path = await put('cut.pt', archiveOf(latin('\x80\x02}.')).slice(0, -30));
    expect((await expectCode(() => openCheckpoint(path), 'MOME_INVALID_FILE')).message).toMatch(/file is truncated/);
  });

  it('stand once in an archive, and so do storages', async () => {
    const pickle = latin('\x80\x02}.');
    const order = Buffer.from('little');
    for (const files of [
      [
        ['a/data.pkl', pickle],
        ['a/data.pkl', pickle],
      ],
      [
        ['a/byteorder', order],
        ['a/data.pkl', pickle],
        ['a/byteorder', order],
      ],
      [
        ['a/data.pkl', pickle],
        ['a/data/0', order],
        ['a/data/0', order],
      ],
    ] satisfies [string, Buffer][][]) {
      const path = await put('twice.pt', zip(files));
      await expect(openCheckpoint(path)).rejects.toThrow(/expected one entry of its kind/);
    }
  });

  it('may have more steps in larger files', async () => {
    // 240,000 steps, as those of a large model with averages and its optimizer.
    const pickle = latin(`\x80\x02${'}0'.repeat(26_700)}N.`);
    await expectCode(() => guardPickle(pickle, 'a.pt'), 'MOME_TOO_LARGE');
    guardPickle(pickle, 'a.pt', 16 * 2 ** 20);
    const longest = latin(`\x80\x02${'}0'.repeat(67_000)}N.`);
    await expectCode(() => guardPickle(longest, 'a.pt', 2 ** 40), 'MOME_TOO_LARGE');
    const files: [string, Buffer][] = [['a/data.pkl', pickle]];
    const small = await put('small.pt', zip(files));
    await expectCode(() => openCheckpoint(small), 'MOME_TOO_LARGE');
    const large = await put('large.pt', zip([...files, ['a/data/0', Buffer.alloc(16 * 2 ** 20)]]));
    expect((await expectCode(() => openCheckpoint(large), 'MOME_INVALID_FILE')).message).not.toMatch(/steps/);
  });
});

describe('archives', () => {
  const one = { storage: 'FloatStorage', shape: [2], strides: [1] } as const;
  const archive = () => Buffer.from(torchArchive({ a: { ...one, values: [1, 2] }, b: { ...one, values: [3, 4] } }));
  /** Where the central directory's record of an entry begins. */
  const recordOf = (bytes: Buffer, name: string) => bytes.lastIndexOf(name) - 46;

  it.each(['data.pkl', 'data/0', 'data/1'])('with a wrong checksum of %s are refused, naming it', async (name) => {
    const bytes = archive();
    bytes[recordOf(bytes, `archive/${name}`) + 16]! ^= 1;
    const path = await put('checksum.pt', bytes);
    const { message } = await expectCode(async () => {
      const { entries } = await openCheckpoint(path);
      for (const entry of entries.values()) await readTensor(entry);
    }, 'MOME_INVALID_FILE');
    expect(message).toContain(`archive/${name}: expected bytes with the checksum`);
  });

  it('in another byte order are refused', async () => {
    const pickle = latin('\x80\x02}.');
    for (const order of ['big', 'middle', '']) {
      const path = await put(
        'order.pt',
        zip([
          ['a/byteorder', Buffer.from(order)],
          ['a/data.pkl', pickle],
        ]),
      );
      expect((await expectCode(() => openCheckpoint(path), 'MOME_UNSUPPORTED')).message).toMatch(/little-endian/);
    }
  });

  it('without checksums are read', async () => {
    const bytes = archive();
    for (const name of ['data.pkl', 'data/0', 'data/1'])
      bytes.writeUInt32LE(0, recordOf(bytes, `archive/${name}`) + 16);
    const { entries } = await openCheckpoint(await put('unchecked.pt', bytes));
    expect([...(await readTensor(entries.get('b')!))]).toEqual([3, 4]);
  });

  it('whose entries overlap are refused, naming one', async () => {
    const bytes = archive();
    const [first, second] = ['data/0', 'data/1'].map((name) => recordOf(bytes, `archive/${name}`)) as [number, number];
    bytes.copyWithin(second + 42, first + 42, first + 46);
    const shared = await expectCode(async () => openCheckpoint(await put('shared.pt', bytes)), 'MOME_INVALID_FILE');
    expect(shared.message).toMatch(/archive\/data\/. overlaps archive\/data\/./);
    const longer = archive();
    const record = recordOf(longer, 'archive/data/0');
    for (const at of [20, 24]) longer.writeUInt32LE(longer.readUInt32LE(record + at) + 1, record + at);
    const reaching = await expectCode(
      async () => openCheckpoint(await put('reaching.pt', longer)),
      'MOME_INVALID_FILE',
    );
    expect(reaching.message).toMatch(/archive\/data\/1 overlaps archive\/data\/0/);
  });
});

describe('small checkpoints of large tensors', () => {
  it('by strides of 0 are refused', async () => {
    const one = { storage: 'FloatStorage', values: [1], strides: [0] } as const;
    const path = await put('repeated.pt', torchArchive({ a: { ...one, shape: [2 ** 31 - 1] } }));
    await expectCode(() => openCheckpoint(path), 'MOME_TOO_LARGE');
    const small = await put('few.pt', torchArchive({ a: { ...one, shape: [5] } }));
    expect([...(await readTensor((await openCheckpoint(small)).entries.get('a')!))]).toEqual([1, 1, 1, 1, 1]);
  });

  const beit = async (name: string, more: Readonly<Record<string, readonly number[]>>): Promise<string> => {
    const path = join(folder, name);
    const shapes = { 'patch_embed.proj.weight': [4, 3, 2, 2], 'blocks.0.attn.qkv.weight': [12, 4], ...more };
    const tensors = Object.entries(shapes).map(([each, shape]) => ({
      name: each,
      dtype: 'F32' as const,
      shape,
      data: new Float32Array(shape.reduce((product, size) => product * size, 1)),
    }));
    await writeSafetensors(path, tensors);
    return path;
  };
  const config = parseConfig({ ...presets.base, width: 4, heads: 2, layers: 2, firstVlLayer: 1 });

  it.each(['999999999', '256', '9'.repeat(400)])('by a block of number %s are refused', async (number) => {
    const path = await beit('blocks.safetensors', { [`blocks.${number}.x`]: [1] });
    await expectCode(async () => takeParameters(await openCheckpoint(path), config), 'MOME_TOO_LARGE');
    expect((await inspectCheckpoint(path)).problem).not.toBeNull();
  });

  it('by one table for all layers or tables that differ are refused', async () => {
    const wide = await beit('wide.safetensors', {
      'rel_pos_bias.relative_position_bias_table': [3000, 300],
      'blocks.255.x': [1],
    });
    await expectCode(async () => takeParameters(await openCheckpoint(wide), config), 'MOME_TOO_LARGE');
    const differ = await beit('differ.safetensors', {
      'blocks.0.attn.relative_position_bias_table': [732, 2],
      'blocks.1.attn.relative_position_bias_table': [7, 1],
    });
    await expectCode(async () => takeParameters(await openCheckpoint(differ), config), 'MOME_INVALID_SHAPE');
  });

  it('by a picture size are refused', async () => {
    await expectCode(() => resizeRelativeTable(new Float32Array(25 * 2), 2, 3, 4096), 'MOME_TOO_LARGE');
    await expectCode(() => resizeRelativeTable(new Float32Array(1023 ** 2), 1, 512, 4), 'MOME_TOO_LARGE');
    await expectCode(() => resizeRelativeTable(new Float32Array(25 * 600), 600, 3, 256), 'MOME_TOO_LARGE');
    await expectCode(() => resizeRelativeTable(new Float32Array(255 ** 2 * 200), 200, 128, 256), 'MOME_TOO_LARGE');
    await expectCode(() => resizeAbsolutePositions(new Float32Array(17 * 2), 2, 4, 4096), 'MOME_TOO_LARGE');
    await expectCode(() => resizeAbsolutePositions(new Float32Array(17 * 4096), 4096, 4, 256), 'MOME_TOO_LARGE');
  });
});
