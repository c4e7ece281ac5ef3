import { open, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { configFromArch, type VlmoConfig } from '../../src/architecture/config.ts';
import { convertCheckpoint } from '../../src/checkpoint/index.ts';
import { exportOnnx, type OnnxExport } from '../../src/export/onnx.ts';
import { decodeModel, type ModelProto } from '../../src/graph/index.ts';
import { fillWeights, openModel } from '../../src/inference/load.ts';
import { type Batch, type BatchItems, layoutBatch } from '../../src/model/batch.ts';
import { encode } from '../../src/model/encoder.ts';
import {
  type ArgumentsOf,
  argumentsOf,
  embed,
  lowerFunction,
  type ModelFunction,
  modelFunction,
  type OutputsOf,
  type OwnArguments,
} from '../../src/model/functions.ts';
import { itmLogits, pooled } from '../../src/model/heads.ts';
import { Engine } from '../../src/runtime/engine.ts';
import { createRandom } from '../../src/train/random.ts';
import { CaseTensors, readCaseConfig } from '../../src/verify/case-files.ts';
import { compare } from '../../src/verify/compare.ts';
import { readTexts } from '../../src/verify/model-case.ts';
import { expectCode, golden, temporaryFolder, tinyModel } from '../helpers.ts';
import { runOnnx } from '../onnx-runtime.ts';

/** Most that the outputs of another runtime may differ, relative L2. */
const bound = 1e-5;

const fusion = modelFunction('fusion', {
  encode,
  inputs: ['pair_cls'],
  heads: ({ hidden, weights }, { pair_cls }) => {
    const rows = pooled(hidden, pair_cls, weights);
    return { pooled: rows, itm_logits: itmLogits(rows, weights) };
  },
});

/** What our own engine says of texts, of pictures, and of the i-th text with the i-th picture. */
async function ownOutputs(model: string | undefined, texts: readonly Int32Array[], pixels: Float32Array) {
  const { checkpoint, config } = await openModel(model);
  const engine = new Engine({ threads: 2 });
  try {
    const weights = engine.createWeights();
    await fillWeights(weights, checkpoint, config);
    const pictures = texts.map((_, picture) => ({ picture }));
    const run = <F extends ModelFunction>(of: F, items: BatchItems, own: (batch: Batch) => OwnArguments<F>) => {
      const batch = layoutBatch(config, items, texts.length);
      const { text } = lowerFunction(of, config, { pixels: 'f32' });
      const program = engine.createProgram<ArgumentsOf<F>, OutputsOf<F>>(weights, text);
      return program.run(argumentsOf<F>(batch, { pixels }, own(batch)));
    };
    const pairs = texts.map((text, picture) => ({ text, picture }));
    return {
      ...(await run(embed, { texts, images: pictures }, () => ({}))),
      ...(await run(fusion, { pairs }, ({ pairTextCls }) => ({ inputs: { pair_cls: pairTextCls } }))),
    };
  } finally {
    engine.dispose();
  }
}

/** The same of the exported files, with every text padded to `length`. */
async function onnxOutputs(folder: string, texts: readonly Int32Array[], length: number, pixels: Float32Array) {
  const size = Math.sqrt(pixels.length / texts.length / 3);
  return {
    ...(await runOnnx(join(folder, 'image.onnx'), { pixels, size })),
    ...(await runOnnx(join(folder, 'text.onnx'), { texts, length })),
    ...(await runOnnx(join(folder, 'fusion.onnx'), { texts, length, pixels, size })),
  };
}

const outputNames = ['image_embed', 'text_embed', 'itm_logits', 'pooled'] as const;

function inputs({ imageSize, vocabularySize }: VlmoConfig, lengths: readonly number[], seed: number) {
  const random = createRandom(seed);
  const texts = lengths.map((length) => Int32Array.from({ length }, () => random.integer(vocabularySize)));
  const pixels = new Float32Array(lengths.length * 3 * imageSize ** 2).map(() => random.normal(0, 0.5));
  return { texts, pixels };
}

describe.each(['tiny_relative', 'tiny_absolute', 'emoji-tiny'] as const)('ONNX of %s', (name) => {
  let model: string | undefined;
  let exported: OnnxExport;
  beforeAll(async () => {
    model = name === 'emoji-tiny' ? undefined : await tinyModel(name);
    exported = await exportOnnx(model, join(await temporaryFolder(), 'onnx'));
  });

  it.each([
    [[1], 1],
    [[5], 5],
    [[2, 9, 4], 9],
    [[12, 3], 12],
    [[3, 1, 6, 2, 8], 11],
  ])('gives our numbers for texts of %j tokens padded to %i', async (lengths, length) => {
    const { texts, pixels } = inputs(exported.config, lengths, length);
    const ours = await ownOutputs(model, texts, pixels);
    const theirs = await onnxOutputs(exported.folder, texts, length, pixels);
    for (const output of outputNames) {
      expect(theirs[output]!.dims[0]).toBe(lengths.length);
      expect(compare(output, 'output', theirs[output]!.data, ours[output]!, bound)).toMatchObject({ passed: true });
    }
  });

  it('gives other numbers when one weight is altered', async () => {
    const { texts, pixels } = inputs(exported.config, [4, 7], 3);
    const ours = await ownOutputs(model, texts, pixels);
    const altered = await exportOnnx(model, join(await temporaryFolder(), 'altered'));
    const { externals } = await parse(altered, 'image.onnx');
    await addTo(join(altered.folder, altered.weights), externals.get('itc_image_proj.fc.weight.transposed')!.offset, 1);
    const theirs = await onnxOutputs(altered.folder, texts, 7, pixels);
    const passed = outputNames.filter(
      (output) => compare(output, 'output', theirs[output]!.data, ours[output]!, bound).passed,
    );
    expect(passed).toEqual(['text_embed', 'itm_logits', 'pooled']);
  });

  it('names its inputs, outputs and open sizes, and defines every tensor', async () => {
    const text = ['text_ids [batch, text_length] 7', 'text_mask [batch, text_length] 7'];
    const { imageSize: S, width } = exported.config;
    const pixels = `pixels [batch, 3, ${S}, ${S}] 1`;
    const expected = {
      image: [[pixels], [`image_embed [batch, ${width}] 1`]],
      text: [text, [`text_embed [batch, ${width}] 1`]],
      fusion: [
        [...text, pixels],
        ['itm_logits [batch, 2] 1', `pooled [batch, ${width}] 1`],
      ],
    };
    const { size } = await stat(join(exported.folder, exported.weights));
    expect(size).toBe(exported.weightBytes);
    for (const { name: part, file } of exported.functions) {
      const { model: proto, externals } = await parse(exported, file);
      expect([values(proto.graph.input), values(proto.graph.output)]).toEqual(expected[part]);
      expect(proto).toMatchObject({ ir_version: 8, producer_name: 'mome', opset_import: [{ version: 17 }] });
      expect(proto.metadata_props).toContainEqual({ key: 'imageSize', value: String(S) });
      expect(undefinedTensors(proto)).toEqual([]);
      const ends = [...externals.values()].sort((a, b) => a.offset - b.offset);
      for (const [i, { offset, length }] of ends.entries()) {
        expect(offset % 4096).toBe(0);
        expect(offset + length).toBeLessThanOrEqual(ends[i + 1]?.offset ?? size);
      }
    }
  });
});

describe('the recorded cases', () => {
  it.each(['tiny_relative', 'tiny_absolute'] as const)('%s has the numbers of the original code', async (name) => {
    const { folder } = await exportOnnx(await tinyModel(name), join(await temporaryFolder(), 'onnx'));
    const given = await CaseTensors.open(join(golden(name), 'inputs.safetensors'));
    const recorded = await CaseTensors.open(join(golden(name), 'outputs.safetensors'));
    const texts = await readTexts(given, 'text_ids', given.entry('image').shape[0]!);
    const theirs = await onnxOutputs(folder, texts, given.entry('text_ids').shape[1]!, await given.floats('image'));
    for (const output of outputNames) {
      const expected = await recorded.floats(`${output.endsWith('embed') ? 'dual' : 'fusion'}/${output}`);
      expect(compare(output, 'output', theirs[output]!.data, expected, bound)).toMatchObject({ passed: true });
    }
  });
});

describe('exportOnnx', () => {
  it('leaves out what the model has no head for, unless it was asked for', async () => {
    const folder = await temporaryFolder();
    const { arch } = await readCaseConfig(golden('tiny_relative'));
    await convertCheckpoint(join(golden('tiny_relative'), 'weights.pt'), join(folder, 'headless'), {
      config: configFromArch(arch),
      omit: (parameter) => parameter.startsWith('itm_score'),
    });
    const { functions, leftOut } = await exportOnnx(join(folder, 'headless'), join(folder, 'some'));
    expect(functions.map(({ name }) => name)).toEqual(['image', 'text']);
    expect(leftOut).toEqual([{ name: 'fusion', missing: ['itm_score.fc.weight', 'itm_score.fc.bias'] }]);
    expect((await readdir(join(folder, 'some'))).sort()).toEqual(['image.onnx', 'text.onnx', 'weights.data']);
    await expectCode(
      () => exportOnnx(join(folder, 'headless'), join(folder, 'none'), { only: ['fusion'] }),
      'MOME_UNSUPPORTED',
    );
    expect(await readdir(folder)).not.toContain('none');
  });

  it('exports one function, with the weights of that one', async () => {
    const folder = await temporaryFolder();
    const all = await exportOnnx(undefined, join(folder, 'all'));
    const text = await exportOnnx(undefined, join(folder, 'text'), { only: ['text'] });
    expect((await readdir(text.folder)).sort()).toEqual(['text.onnx', 'weights.data']);
    expect(text.weightBytes).toBeLessThan(0.7 * all.weightBytes);
  });

  it('exports at another picture size', async () => {
    const folder = await temporaryFolder();
    const { functions } = await exportOnnx(undefined, folder, { only: ['image'], imageSize: 64 });
    expect(functions[0]!.inputs[0]!.shape).toEqual(['batch', 3, 64, 64]);
    const { image_embed } = await runOnnx(join(folder, 'image.onnx'), {
      pixels: new Float32Array(3 * 64 ** 2),
      size: 64,
    });
    expect(image_embed!.dims).toEqual([1, 192]);
  });

  it('leaves nothing behind when it fails', async () => {
    const folder = await temporaryFolder();
    const controller = new AbortController();
    const aborted = join(folder, 'made', 'for', 'it');
    const onProgress = () => controller.abort();
    await expectCode(() => exportOnnx(undefined, aborted, { signal: controller.signal, onProgress }), 'MOME_ABORTED');
    expect(await readdir(folder)).toEqual([]);
    await exportOnnx(undefined, join(folder, 'text.onnx', 'in-the-way'), { only: ['text'] });
    await expectCode(() => exportOnnx(undefined, folder, { only: ['text'] }), 'MOME_IO');
    expect(await readdir(folder)).toEqual(['text.onnx']);
  });

  it('refuses what it cannot do', async () => {
    const folder = await temporaryFolder();
    await expectCode(() => exportOnnx(undefined, '/proc/mome-onnx'), 'MOME_IO');
    await expectCode(() => exportOnnx('/nowhere', folder), 'MOME_NOT_FOUND');
    await expectCode(() => exportOnnx(undefined, folder, { only: [] }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => exportOnnx(undefined, folder, { only: ['audio' as 'text'] }), 'MOME_INVALID_ARGUMENT');
    expect(await readdir(folder)).toEqual([]);
  });
});

/** A file as read back, and where its weights lie. */
async function parse({ folder }: OnnxExport, file: string) {
  const model = decodeModel(await readFile(join(folder, file)));
  const externals = new Map(
    model.graph.initializer
      .filter(({ data_location }) => data_location === 1)
      .map(({ name, dims, external_data }) => {
        const { location, offset, length } = Object.fromEntries(external_data!.map(({ key, value }) => [key, value]));
        expect(location).toBe('weights.data');
        expect(Number(length)).toBe(4 * dims.reduce((product, size) => product * size, 1));
        return [name, { offset: Number(offset), length: Number(length) }] as const;
      }),
  );
  return { model, externals };
}

function values(infos: ModelProto['graph']['input']): string[] {
  return infos.map(({ name, type: { tensor_type } }) => {
    const sizes = tensor_type.shape.dim.map(({ dim_value, dim_param }) => dim_param ?? dim_value);
    return `${name} [${sizes.join(', ')}] ${tensor_type.elem_type}`;
  });
}

/** Tensors that a node reads before any is there, outputs nobody writes, and constants nobody reads. */
function undefinedTensors({ graph }: ModelProto): string[] {
  const known = new Set([...graph.input, ...graph.initializer].map(({ name }) => name));
  const read = new Set<string>();
  const problems: string[] = [];
  for (const { name, input, output } of graph.node) {
    for (const tensor of input) {
      if (!known.has(tensor)) problems.push(`${name} reads ${tensor}`);
      read.add(tensor);
    }
    for (const tensor of output) {
      if (known.has(tensor)) problems.push(`${name} writes ${tensor} again`);
      known.add(tensor);
    }
  }
  problems.push(...graph.output.filter(({ name }) => !known.has(name)).map(({ name }) => `no ${name}`));
  problems.push(...graph.initializer.filter(({ name }) => !read.has(name)).map(({ name }) => `${name} unread`));
  return problems;
}

/** Adds to one float32 of a file. */
async function addTo(path: string, offset: number, amount: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const value = new Float32Array(1);
    await file.read(value, 0, 4, offset);
    value[0]! += amount;
    await file.write(value, 0, 4, offset);
  } finally {
    await file.close();
  }
}
