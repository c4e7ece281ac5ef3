/** Models under any prefix and in any dictionary, beside tensors and objects that are not theirs. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint, readTensor, writeSafetensors } from '../../src/checkpoint/index.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';
import { Called, type Rebuild, Saved, torchSave } from './torch-save.ts';

let folder = '';
beforeAll(async () => {
  folder = await temporaryFolder();
});

const names = [
  'transformer.cls_token',
  'transformer.patch_embed.proj.weight',
  'transformer.blocks.0.attn.qkv.weight',
  'transformer.blocks.0.mlp_imag.fc1.weight',
  'text_embeddings.word_embeddings.weight',
  'token_type_embeddings.weight',
  'logit_scale',
];
const bytesOf = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const tensor = (value: number, rebuild: Rebuild = 'v2') => new Saved('FloatStorage', [1], bytesOf(value), { rebuild });
/** A model whose tensors hold their place in the list. */
const model = (prefix = '', rename = (name: string) => name, rebuild: Rebuild = 'v2') =>
  Object.fromEntries(names.map((name, i) => [prefix + rename(name), tensor(i, rebuild)]));

async function saved(root: unknown): Promise<string> {
  const path = join(folder, 'saved.pt');
  await torchSave(path, root);
  return path;
}

/** Opens what was saved and looks for the whole model in it. */
async function expectModel(root: unknown) {
  const opened = await openCheckpoint(await saved(root));
  for (const [i, name] of names.entries()) {
    const entry = opened.entries.get(name);
    expect(entry, name).toBeDefined();
    expect([...(await readTensor(entry!))]).toEqual([i]);
  }
  return opened;
}

describe('a model', () => {
  it.each([
    'module.',
    'model.',
    '_orig_mod.',
    '_forward_module.',
    'module.module.',
    'module._orig_mod.',
    '_orig_mod.module.',
    'vlmo.',
    'net.backbone.',
    'student_model.',
  ])('is found after the prefix %s', async (prefix) => {
    expect((await expectModel(model(prefix))).prefix).toBe(prefix);
    // A few tensors of others do not hide it.
    const beside = { ...model(prefix), 'criterion.weight': tensor(9), steps: tensor(3), logit_scale: tensor(77) };
    const { entries } = await expectModel(beside);
    expect([...entries.keys()]).toContain('criterion.weight');
  });

  it.each<[string, (name: string) => string]>([
    ['a compiled transformer', (name) => name.replace('transformer.', 'transformer._orig_mod.')],
    ['compiled blocks', (name) => name.replace('blocks.0.', 'blocks.0._orig_mod.')],
    ['blocks that are computed again', (name) => name.replace('blocks.0.', 'blocks.0._checkpoint_wrapped_module.')],
    ['a transformer without its own name', (name) => name.replace('transformer.', '')],
  ])('is found with %s', async (_, rename) => {
    await expectModel(model('', rename));
    await expectModel({ state_dict: model('module.', rename) });
  });

  it.each([
    'state_dict',
    'module',
    'model',
    'model_state_dict',
    'state_dict_ema',
    'ema',
    'model_ema',
    'net',
    'weights',
    'student',
    'anything at all',
  ])('is found in the dictionary %s', async (key) => {
    const root = { epoch: 3, [key]: model(), optimizer: { state: { a: { exp_avg: tensor(1) } }, param_groups: [] } };
    expect((await expectModel(root)).wrapper).toBe(key);
    expect((await expectModel({ args: null, checkpoint: root })).wrapper).toBe(`checkpoint.${key}`);
  });

  it('is found with both around it', async () => {
    expect(await expectModel({ state: { ema: model('_orig_mod.module.') } })).toMatchObject({
      wrapper: 'state.ema',
      prefix: '_orig_mod.module.',
    });
  });

  it('is taken and not its average', async () => {
    const average = Object.fromEntries(names.map((name) => [name, tensor(-1)]));
    for (const key of ['ema', 'model_ema', 'state_dict_ema', 'ema_weights'])
      await expectModel({ [key]: average, net: model() });
    const prefixed = Object.fromEntries(names.map((name) => [`ema_model.${name}`, tensor(-1)]));
    await expectModel({ ...prefixed, ...model('model.') });
  });

  it.each<[string, unknown, RegExp]>([
    ['two dictionaries', { teacher: model(), student: model() }, /"teacher", "student"/],
    ['two prefixes', { ...model('teacher.'), ...model('student.') }, /"teacher\.", "student\."/],
    ['none', { epoch: 1, 'best score': 0.5 }, /found none under epoch, best score/],
    ['a module that was saved whole', { model: new Called('vlmo.modules', 'VLMo') }, /state_dict\(\)/],
  ])('is asked for where there are %s', async (_, root, message) => {
    const path = await saved(root);
    expect((await expectCode(() => openCheckpoint(path), 'MOME_INVALID_FILE')).message).toMatch(message);
  });
});

describe('objects of other classes', () => {
  it('may lie beside with all that they hold', async () => {
    await expectModel({
      model: model(),
      statistics: new Called('collections', 'defaultdict', [new Called('builtins', 'list')], { loss: [1, 2], a: 3 }),
      history: new Called('collections', 'deque', [[], 5], [1, 'two', null]),
      settings: new Called('mine', 'List', [], [new Called('mine', 'Set', [[1]])]),
    });
  });

  it('may be dictionaries of tensors', async () => {
    await expectModel(new Called('mine', 'StateDict', [], model('module.')));
    expect((await expectModel({ state_dict: new Called('mine', 'StateDict', [], model()) })).wrapper).toBe(
      'state_dict',
    );
  });
});

describe('tensors', () => {
  it.each<Rebuild>(['v2', 'v3', 'parameter', 'with_state', 'from_type'])('rebuilt by %s are read', async (rebuild) => {
    await expectModel(model('', undefined, rebuild));
  });

  it('over untyped storages have the type that their dtype says', async () => {
    const half = new Uint8Array(Uint16Array.of(0x3c00, 0xc100).buffer);
    const root = {
      ...model(),
      a: new Saved('storage.UntypedStorage', [2], half, { rebuild: 'v3', dtype: 'float16' }),
      b: new Saved('storage.UntypedStorage', [2], half, { rebuild: 'v3', dtype: 'uint16' }),
    };
    const { entries, foreign } = await expectModel(root);
    expect([...(await readTensor(entries.get('a')!))]).toEqual([1, -2.5]);
    expect(foreign.get('b')).toBe('uint16');
  });

  it('of other types may lie beside', async () => {
    const eight = new Uint8Array(8);
    const others = {
      complex: new Saved('ComplexFloatStorage', [1], eight),
      quantised: new Called('torch._utils', '_rebuild_qtensor', [1, 2, 3]),
      float8: new Saved('storage.UntypedStorage', [8], eight, { rebuild: 'v3', dtype: 'float8_e4m3fn' }),
      mask: new Saved('BoolStorage', [8], eight),
      device: new Called('torch', 'device', ['cuda']),
      quint8: new Saved('QUInt8Storage', [8], eight),
    };
    const { foreign } = await expectModel({ ...others, ...model() });
    expect([...foreign.keys()].sort()).toEqual(['complex', 'float8', 'quantised', 'quint8']);
  });

  it('of other types lie beside in safetensors', async () => {
    const path = join(folder, 'beside.safetensors');
    const types = ['F8_E4M3', 'F8_E5M2FNUZ', 'U16', 'U64', 'C64', 'made later', 'F32'];
    const header = JSON.stringify(
      Object.fromEntries(types.map((dtype, i) => [dtype, { dtype, shape: [8 / 4], data_offsets: [8 * i, 8 * i + 8] }])),
    );
    const length = Buffer.alloc(8);
    length.writeUInt32LE(header.length);
    await writeFile(path, Buffer.concat([length, Buffer.from(header), Buffer.alloc(8 * types.length)]));
    const { entries, foreign } = await openCheckpoint(path);
    expect([...entries.keys()]).toEqual(['F32']);
    expect([...foreign]).toEqual(types.slice(0, -1).map((type) => [type, type]));
  });

  it('in safetensors are found after a prefix, too', async () => {
    const path = join(folder, 'prefixed.safetensors');
    const data = Float32Array.of(1);
    await writeSafetensors(
      path,
      names.map((name) => ({ name: `_orig_mod.${name}`, dtype: 'F32', shape: [1], data })),
    );
    expect([...(await openCheckpoint(path)).entries.keys()]).toEqual(names);
  });

  it('whose values are yet to be negated or conjugated are not taken as they lie there', async () => {
    for (const rebuild of ['v2', 'v3'] as const) {
      const lazy = (bits?: object) => new Saved('FloatStorage', [1], bytesOf(1), { rebuild, ...(bits && { bits }) });
      const { entries, foreign } = await expectModel({ ...model(), a: lazy({ neg: true }), b: lazy({}), c: lazy() });
      expect([...foreign.keys()]).toEqual(['a']);
      expect(entries.has('b') && entries.has('c')).toBe(true);
    }
  });

  it('of 8 bits take their scales along, after a prefix too', async () => {
    const path = join(folder, 'eight.safetensors');
    const [name, scale] = [`module.${names[1]}`, `module.${names[1]}.scale`];
    await writeSafetensors(path, [
      { name, dtype: 'I8', shape: [2, 2], data: Int8Array.of(1, 2, 3, 4) },
      { name: scale, dtype: 'F32', shape: [2], data: Float32Array.of(0.5, 2) },
    ]);
    const { entries } = await openCheckpoint(path);
    expect([...entries.keys()]).toEqual([names[1]]);
    expect([...(await readTensor(entries.get(names[1]!)!))]).toEqual([0.5, 1, 6, 8]);
  });

  it('are read beside integers of any size', async () => {
    const integers = { a: 2n ** 63n, b: -(2n ** 127n), c: 2n ** 3000n, d: 2n ** 53n + 1n, e: -(2n ** 62n), f: 5n };
    await expectModel({ model: model(), rng: { ...integers, list: Object.values(integers) } });
  });
});
