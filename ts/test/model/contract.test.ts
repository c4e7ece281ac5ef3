import { describe, expect, expectTypeOf, it } from 'vitest';
import { presets } from '../../src/architecture/config.ts';
import {
  type Activation,
  f32,
  fixed,
  Graph,
  type Input,
  i32,
  inputOf,
  layerNorm,
  runDims,
} from '../../src/graph/index.ts';
import { type Batch, keepRows, layoutBatch } from '../../src/model/batch.ts';
import {
  batchDims,
  batchInputs,
  countDims,
  dropPathInput,
  headDims,
  headInputs,
  keptDims,
  objectiveInputs,
  pictureInputs,
  type TrainingArguments,
} from '../../src/model/contract.ts';
import * as functions from '../../src/model/functions.ts';
import { type ArgumentsOf, argumentsOf, type OutputsOf, type OwnArguments } from '../../src/model/functions.ts';
import { contrastiveFunction, fusedFunction, textMlmFunction } from '../../src/model/objectives.ts';

const config = { ...presets.base, layers: 2, firstVlLayer: 1, vocabularySize: 40 };
const text = Int32Array.of(2, 7, 3);
const { embed, match, mixed, answer, reason, fillMask, dualOutputs, fusionOutputs, lowerFunction } = functions;
const all = { embed, match, mixed, answer, reason, fillMask, dualOutputs, fusionOutputs };

/** Names of the `input` lines of a program. */
const inputsOf = (program: string) => [...program.matchAll(/^input (\S+)/gm)].map(([, name]) => name!);

describe('a declared input', () => {
  const { rows, tokens } = runDims('rows', 'tokens');
  const inputs = { ids: i32([rows]), values: f32([tokens, fixed('width', 4)]) } as const;

  it('has one name, type and shape in the graph and in a run', () => {
    const graph = new Graph('small');
    const values = inputOf(graph, inputs, 'values');
    expect(values).toMatchObject({ name: 'values', dtype: 'f32' });
    expect(graph.inputs.get('values')!.shape).toEqual([tokens, fixed('width', 4)]);
    const norm = { gamma: graph.parameter('g', [fixed('width', 4)]), beta: graph.parameter('b', [fixed('width', 4)]) };
    expectTypeOf(layerNorm(values, norm, 1e-6)).toEqualTypeOf<Activation<['tokens', 'width']>>();
    expectTypeOf(inputOf(graph, inputs, 'ids')).toEqualTypeOf<Input<['rows'], 'i32'>>();
    // @ts-expect-error no such input
    expect(() => inputOf(graph, inputs, 'value')).toThrow();
  });
});

describe('the contract of the model', () => {
  const declared = new Set<string>(
    Object.keys({ ...batchInputs, ...pictureInputs(config), ...headInputs, ...objectiveInputs(fixed('answers', 5)) }),
  );
  const sizes = Object.keys({ ...batchDims, ...keptDims, ...countDims });

  it.each(Object.entries(all))('declares all that a run of %s gives', (_, of) => {
    const { text: program, dims } = lowerFunction(of, config);
    for (const name of inputsOf(program)) expect(declared).toContain(name);
    expect(inputsOf(program)).toEqual(expect.arrayContaining([...of.inputs]));
    for (const dim of dims) expect([...sizes, ...Object.keys(headDims)]).toContain(dim);
    for (const dim of of.dims) expect(dims).toContain(dim);
  });

  it('declares all that a training run gives', () => {
    const options = { pixels: 'u8', groups: true, dropPath: true, textDropout: 0.1 } as const;
    const drops = ([0, 1] as const).flatMap((layer) =>
      (['block', 'branch'] as const).flatMap((stream) =>
        (['attention', 'ffn'] as const).map((branch) => dropPathInput(stream, layer, branch) as string),
      ),
    );
    const trainings = [
      contrastiveFunction(config, 'itc', options),
      fusedFunction(config, ['itm', 'mlm', 'vqa', 'nlvr2'], options),
      textMlmFunction(config, options),
    ];
    const objectives = Object.values(objectiveInputs(fixed('answers', 5))).flatMap(({ shape }) =>
      shape.map(({ name }) => name as string),
    );
    for (const { lowered } of trainings) {
      for (const name of inputsOf(lowered.text)) expect([...declared, ...drops]).toContain(name);
      for (const dim of lowered.dims) expect([...sizes, ...objectives]).toContain(dim);
    }
  });

  it('is kept by a batch: it gives every size and array of the encoder and the kept rows', () => {
    const batch = layoutBatch(config, { texts: [text], pairs: [{ text, picture: 0 }] }, 1);
    expect(Object.keys(batch.dims).sort()).toEqual(sizes.sort());
    const kept = ['kept_text', 'kept_pair', 'kept_image'];
    expect(Object.keys(batch.inputs).sort()).toEqual([...Object.keys(batchInputs), ...kept].sort());
    for (const [name, { dtype }] of Object.entries({ ...batchInputs, kept_text: headInputs.kept_text })) {
      expect(dtype).toBe('i32');
      expect(batch.inputs[name as keyof Batch['inputs']]).toBeInstanceOf(Int32Array);
    }
  });

  it('types the arguments and outputs of every function', () => {
    expectTypeOf<OutputsOf<typeof embed>>().toEqualTypeOf<{
      readonly text_embed: Float32Array;
      readonly image_embed: Float32Array;
    }>();
    expectTypeOf<OwnArguments<typeof embed>>().toExtend<{ readonly dims?: object; readonly inputs?: object }>();
    expectTypeOf<OwnArguments<typeof reason>['dims']>().toEqualTypeOf<{ readonly statements: number }>();
    expectTypeOf<OwnArguments<typeof fillMask>['inputs']>().toEqualTypeOf<{ readonly mlm_rows: Int32Array }>();
    expectTypeOf<ArgumentsOf<typeof answer>['inputs']['kept_pair']>().toEqualTypeOf<Int32Array>();
    const batch = layoutBatch(config, { texts: [text] }, 0);
    const bytes = new Uint8Array();
    const args = argumentsOf<typeof fillMask>(
      batch,
      { bytes },
      { dims: { tokens: 1 }, inputs: { mlm_rows: Int32Array.of(1) } },
    );
    expect(args.dims).toEqual({ ...batch.dims, tokens: 1 });
    expect(args.inputs).toEqual({ ...batch.inputs, bytes, mlm_rows: Int32Array.of(1) });
    // @ts-expect-error chosen rows are missing
    argumentsOf<typeof fillMask>(batch, { bytes }, { dims: { tokens: 1 } });
    // @ts-expect-error their number is missing
    argumentsOf<typeof fillMask>(batch, { bytes }, { inputs: { mlm_rows: Int32Array.of(1) } });
    // @ts-expect-error another type of array
    argumentsOf<typeof fillMask>(batch, { bytes }, { dims: { tokens: 1 }, inputs: { mlm_rows: Float32Array.of(1) } });
    // @ts-expect-error a dimension of another name
    argumentsOf<typeof reason>(batch, { bytes }, { dims: { statement: 1 } });
    // @ts-expect-error pixels are numbers
    argumentsOf<typeof embed>(batch, { pixels: bytes }, {});
  });

  it('types the arguments of training and the names of what reads kept rows', () => {
    const batch = layoutBatch(config, { pairs: [{ text, picture: 0 }] }, 1);
    const kept = keepRows({ pairs: { itm: batch.pairTextCls } });
    expect(kept.inputs.kept_itm).toEqual(Int32Array.of(0));
    // @ts-expect-error nothing reads such rows
    expect(keepRows({ pairs: { matching: batch.pairTextCls } }).inputs.kept).toEqual(batch.pairTextCls);
    const inputs = { ...batch.inputs, ...kept.inputs };
    const dims = { ...batch.dims, ...kept.dims };
    expectTypeOf({ dims, inputs }).toExtend<TrainingArguments>();
    expectTypeOf({ dims, inputs: { ...inputs, itm_labels: new Float32Array(1) } }).not.toExtend<TrainingArguments>();
    expectTypeOf({ dims: { rows: 1 }, inputs }).not.toExtend<TrainingArguments>();
  });
});
