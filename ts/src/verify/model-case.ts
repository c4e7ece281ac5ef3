/**
 * The model of a reference case on an engine, fed with the case's pixels and texts.
 */
import { join } from 'node:path';
import { imageTokensOf, type VlmoConfig } from '../architecture/config.ts';
import { configToRun, openCheckpoint, takeParameters } from '../checkpoint/index.ts';
import { fillWeights, requireEncoder } from '../inference/load.ts';
import { type Batch, type BatchItems, layoutBatch } from '../model/batch.ts';
import {
  type ArgumentsOf,
  answer,
  argumentsOf,
  dualOutputsOf,
  fillMask,
  fusionOutputsOf,
  lowerFunction,
  type ModelFunction,
  type OutputsOf,
  type OwnArguments,
  reason,
} from '../model/functions.ts';
import type { DType } from '../runtime/addon.ts';
import type { Device } from '../runtime/device.ts';
import type { Weights } from '../runtime/engine.ts';
import { Engine } from '../runtime/engine.ts';
import { check } from '../runtime/errors.ts';
import { CaseTensors } from './case-files.ts';
import { type Check, type CheckKind, compare, type Measure } from './compare.ts';

/** Bounds on relative L2 errors; widths from 256 on count as full size. */
export const bounds = { tiny: 2e-5, full: 1e-4, gradient: 1e-4, training: 5e-4, exact: 1e-6, resize: 1e-5 } as const;
/** Least cosines of outputs with rounded weights. */
const cosines = { bfloat16: 0.999, int8: 0.99 } as const;
const fullWidth = 256;

/** The inputs of a case. */
export interface CaseInputs {
  readonly batch: number;
  /** [B, 3, S, S] normalised pixels. */
  readonly pixels: Float32Array;
  /** The texts without padding. */
  readonly texts: readonly Int32Array[];
  /** Names of the parameters that the file has: heads may be missing. */
  readonly parameters: readonly string[];
}

/** A running model and its inputs. */
export class ModelCase {
  readonly config: VlmoConfig;
  readonly engine: Engine;
  readonly weights: Weights;
  readonly inputs: CaseTensors;
  readonly batch: number;
  readonly pixels: Float32Array;
  readonly texts: readonly Int32Array[];
  /** Names of the parameters that the file has. */
  readonly parameters: readonly string[];
  readonly outputBound: number;
  readonly outputMeasure: Measure;
  /** Stops the case. */
  readonly signal: AbortSignal | undefined;

  private constructor(
    config: VlmoConfig,
    engine: Engine,
    weights: Weights,
    inputs: CaseTensors,
    parts: CaseInputs,
    { dtype, signal }: { readonly dtype: DType; readonly signal: AbortSignal | undefined },
  ) {
    this.config = config;
    this.engine = engine;
    this.weights = weights;
    this.inputs = inputs;
    this.batch = parts.batch;
    this.pixels = parts.pixels;
    this.texts = parts.texts;
    this.parameters = parts.parameters;
    this.signal = signal;
    this.outputBound = dtype === 'float32' ? (config.width >= fullWidth ? bounds.full : bounds.tiny) : cosines[dtype];
    this.outputMeasure = dtype === 'float32' ? 'relL2' : 'cosine';
  }

  static async open(
    folder: string,
    weightsPath: string,
    arch: VlmoConfig,
    {
      device = { kind: 'cpu' },
      target,
      dtype = 'float32',
      signal,
    }: {
      readonly device?: Device;
      readonly target?: string;
      readonly dtype?: DType;
      readonly signal?: AbortSignal | undefined;
    } = {},
  ): Promise<ModelCase> {
    const checkpoint = await openCheckpoint(weightsPath);
    const config = configToRun(arch, checkpoint);
    const taken = await takeParameters(checkpoint, config);
    requireEncoder(taken.missing, config, weightsPath);
    const inputs = await CaseTensors.open(join(folder, 'inputs.safetensors'));
    const pixels = await inputs.floats('image');
    const batch = inputs.entry('image').shape[0] ?? 0;
    check(
      pixels.length === batch * 3 * config.imageSize ** 2,
      'MOME_INVALID_SHAPE',
      `${inputs.path}: expected pictures of ${config.imageSize} pixels`,
    );
    const texts = await readTexts(inputs, 'text_ids', batch);
    const engine = new Engine({ device, ...(target !== undefined && { target }) });
    try {
      const weights = engine.createWeights(dtype);
      await fillWeights(weights, checkpoint, config, signal, taken);
      return new ModelCase(
        config,
        engine,
        weights,
        inputs,
        { batch, pixels, texts, parameters: [...taken.sources.keys()] },
        { dtype, signal },
      );
    } catch (error) {
      engine.dispose();
      throw error;
    }
  }

  dispose(): void {
    this.engine.dispose();
  }

  layout(items: BatchItems, pictures = this.batch): Batch {
    return layoutBatch(this.config, items, pictures);
  }

  /** Runs an inference function on a batch. */
  async run<F extends ModelFunction>(
    of: F,
    layout: Batch,
    own: OwnArguments<F>,
    pixels = this.pixels,
  ): Promise<OutputsOf<F>> {
    const program = this.engine.createProgram<ArgumentsOf<F>, OutputsOf<F>>(
      this.weights,
      lowerFunction(of, this.config, { pixels: 'f32' }).text,
    );
    try {
      return await program.run(argumentsOf(layout, { pixels }, own), this.signal);
    } finally {
      program.dispose();
    }
  }
}

/** Texts of a case, cut where their mask ends. */
export async function readTexts(inputs: CaseTensors, name: string, batch: number): Promise<Int32Array[]> {
  const ids = await inputs.integers(name);
  const masks = await inputs.integers('text_masks');
  const length = ids.length / batch;
  return Array.from({ length: batch }, (_, i) => {
    const mask = masks.subarray(i * length, (i + 1) * length);
    const end = mask.lastIndexOf(1) + 1;
    check(
      end > 0 && mask.subarray(0, end).every((on) => on === 1),
      'MOME_INVALID_FILE',
      `${inputs.path}: expected text_masks to be ones, then zeros`,
    );
    return ids.slice(i * length, i * length + end);
  });
}

/** Rows of each sequence put back into [B, length, width], zeros where there were none. */
function padded(
  rows: Float32Array,
  begins: Int32Array,
  lengths: readonly number[],
  length: number,
  width: number,
): Float32Array {
  const out = new Float32Array(begins.length * length * width);
  for (const [i, begin] of begins.entries()) {
    out.set(rows.subarray(begin * width, (begin + lengths[i]!) * width), i * length * width);
  }
  return out;
}

/** Every output the case has numbers for. */
export async function checkOutputs(model: ModelCase, expected: CaseTensors): Promise<Check[]> {
  const checks: Check[] = [];
  const { batch, texts, config } = model;
  const L = config.maxTextLength;
  const I = imageTokensOf(config);
  const D = config.width;
  const lengths = texts.map((text) => text.length);
  const pictures = texts.map((_, picture) => ({ picture }));
  const pairs = texts.map((text, picture) => ({ text, picture }));
  const add = async (name: string, values: () => Float32Array | Promise<Float32Array>, kind: CheckKind = 'output') => {
    if (expected.has(name))
      checks.push(
        compare(name, kind, await values(), await expected.floats(name), model.outputBound, model.outputMeasure),
      );
  };
  const imageLengths = texts.map(() => I);

  // Only outputs that the case has numbers for: its file may lack the other heads.
  const wanted = <Name extends string>(names: Readonly<Record<string, Name>>): Name[] => [
    ...new Set(Object.entries(names).flatMap(([name, output]) => (expected.has(name) ? [output] : []))),
  ];
  const dualWanted = wanted({
    'dual/image_hidden': 'hidden',
    'dual/text_hidden': 'hidden',
    'dual/image_embed': 'image_embed',
    'dual/text_embed': 'text_embed',
    'dual/image_embed_vl': 'image_embed_vl',
    'dual/text_embed_vl': 'text_embed_vl',
  });
  if (dualWanted.length > 0) {
    const dualLayout = model.layout({ texts, images: pictures });
    const { textCls: text_cls, imageCls: image_cls } = dualLayout;
    const dual = await model.run(dualOutputsOf(dualWanted), dualLayout, { inputs: { text_cls, image_cls } });
    await add('dual/image_hidden', () => padded(dual.hidden, dualLayout.imageCls, imageLengths, I, D));
    await add('dual/text_hidden', () => padded(dual.hidden, dualLayout.textCls, lengths, L, D));
    await add('dual/image_embed', () => dual.image_embed);
    await add('dual/text_embed', () => dual.text_embed);
    await add('dual/image_embed_vl', () => dual.image_embed_vl);
    await add('dual/text_embed_vl', () => dual.text_embed_vl);
  }

  const fusedLayout = model.layout({ pairs });
  const fusedWanted = wanted({
    'fusion/text_hidden': 'hidden',
    'fusion/image_hidden': 'hidden',
    'fusion/pooled': 'pooled',
    'fusion/itm_logits': 'itm_logits',
  });
  if (fusedWanted.length > 0) {
    const fused = await model.run(fusionOutputsOf(fusedWanted), fusedLayout, {
      inputs: { pair_cls: fusedLayout.pairTextCls },
    });
    await add('fusion/text_hidden', () => padded(fused.hidden, fusedLayout.pairTextCls, lengths, L, D));
    await add('fusion/image_hidden', () => padded(fused.hidden, fusedLayout.pairImageCls, imageLengths, I, D));
    await add('fusion/pooled', () => fused.pooled);
    await add('fusion/itm_logits', () => fused.itm_logits);
  }
  await add('fusion/vqa_logits', async () => (await model.run(answer, fusedLayout, {})).vqa_logits);

  if (expected.has('fusion/nlvr2_logits')) {
    const layout = model.layout({ pairs: nlvr2Pairs(texts) }, 2 * batch);
    const pixels = await twoPictures(model);
    await add(
      'fusion/nlvr2_logits',
      async () => (await model.run(reason, layout, { dims: { statements: batch } }, pixels)).nlvr2_logits,
    );
  }
  if (expected.has('fusion/mlm_logits') || expected.has('text/mlm_logits')) {
    const masked = await readTexts(model.inputs, 'text_ids_mlm', batch);
    const mlm = async (items: BatchItems) => {
      const layout = model.layout(items);
      const cls = items.pairs ? layout.pairTextCls : layout.textCls;
      const rows = Int32Array.from(
        [...cls].flatMap((begin, i) => Array.from({ length: lengths[i]! }, (_, token) => begin + token)),
      );
      const { mlm_logits } = await model.run(fillMask, layout, {
        dims: { tokens: rows.length },
        inputs: { mlm_rows: rows },
      });
      const begins = Int32Array.from(lengths, (_, i) => lengths.slice(0, i).reduce((sum, length) => sum + length, 0));
      return padded(mlm_logits, begins, lengths, L, config.vocabularySize);
    };
    await add('fusion/mlm_logits', () => mlm({ pairs: masked.map((text, picture) => ({ text, picture })) }));
    await add('text/mlm_logits', () => mlm({ texts: masked }));
  }
  return checks;
}

/** Rows of a statement: its text with the first picture, then with the second. */
export function nlvr2Pairs(texts: readonly Int32Array[]) {
  return texts.flatMap((text, i) => [
    { text, picture: 2 * i, type: 1 as const },
    { text, picture: 2 * i + 1, type: 2 as const },
  ]);
}

/** First and second pictures of each statement in turn. */
export async function twoPictures(model: ModelCase): Promise<Float32Array> {
  const second = await model.inputs.floats('image_1');
  const size = model.pixels.length / model.batch;
  const both = new Float32Array(2 * model.pixels.length);
  for (let i = 0; i < model.batch; i++) {
    both.set(model.pixels.subarray(i * size, (i + 1) * size), 2 * i * size);
    both.set(second.subarray(i * size, (i + 1) * size), (2 * i + 1) * size);
  }
  return both;
}
