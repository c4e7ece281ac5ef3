/** The model of the benches: VLMo base at 224 pixels with random weights, its inputs, and how much work they are. */
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { exportOnnx, presets } from '../dist/index.mjs';
import { createRandom, initialParameters, writeModel } from '../dist/train.mjs';
import { root } from './machine.mjs';

export const config = { ...presets.base, vocabularySize: 30522, answers: 3129 };
export const imageTokens = 1 + (config.imageSize / config.patchSize) ** 2;
/** Tokens of a text of the benches, CLS and SEP included, and of a text padded to the model's length. */
export const realTokens = 12;
export const paddedTokens = 40;

const vocabularyFile = join(root, 'models', 'emoji-tiny', 'vocab.txt');

/**
 * Writes the model and, unless `onnx` is false, its ONNX export under `folder`, where they are not there yet.
 *
 * @returns folders of both
 */
export async function prepareBaseModel(folder, seed, { onnx: exported = true } = {}) {
  const model = join(folder, `base-${seed}`);
  const onnx = join(folder, `base-${seed}-onnx`);
  if (!existsSync(join(model, 'model.safetensors'))) {
    mkdirSync(model, { recursive: true });
    copyFileSync(vocabularyFile, join(model, 'vocab.txt'));
    await writeModel(model, config, await initialParameters(config, createRandom(seed)), {
      dtype: 'float32',
      vocabularyFiles: [],
    });
  }
  if (exported && !existsSync(join(onnx, 'fusion.onnx'))) await exportOnnx(model, onnx, {});
  return { model, onnx };
}

/** `count` raw pictures with some structure and noise. */
export function pictures(count, seed) {
  const random = createRandom(seed, 1);
  const size = config.imageSize;
  return Array.from({ length: count }, () => {
    const data = new Uint8Array(size * size * 3);
    const step = 1 + random.integer(7);
    for (let i = 0; i < data.length; i++) data[i] = (i * step + random.integer(64)) & 255;
    return { data, width: size, height: size, channels: 3 };
  });
}

/** A text that becomes `tokens` word pieces, and their ids. */
export function text(tokens = realTokens) {
  const vocabulary = readFileSync(vocabularyFile, 'utf8').split('\n');
  const id = (piece) => vocabulary.indexOf(piece);
  const words = Array.from({ length: tokens - 2 }, (_, i) => ['cat', 'red', 'face', 'hand'][i % 4]);
  return { text: words.join(' '), ids: [id('[CLS]'), ...words.map(id), id('[SEP]')] };
}

/**
 * Multiplications and additions of the encoder for sequences of these lengths, as two operations each. The last block does what
 * follows its attention for the rows alone that are read afterwards: one of each sequence (masked words make it a few more).
 */
export function encoderFlops(lengths, images) {
  const { width, layers, patchSize } = config;
  const patches = images * 2 * (imageTokens - 1) * width * 3 * patchSize ** 2;
  return patches + blockFlops(lengths, layers);
}

function blockFlops(lengths, layers) {
  const { width } = config;
  const projections = 6 * width ** 2;
  const rest = 18 * width ** 2;
  let flops = 0;
  for (const tokens of lengths) {
    flops += layers * (projections * tokens + 4 * tokens ** 2 * width) + rest * ((layers - 1) * tokens + 1);
  }
  return flops;
}

/**
 * Operations of one training step on one pass of the encoder and a head: each product is done once forward and, backward, once for its
 * input and once for its weights.
 *
 * @param {object} pass
 * @param {readonly number[]} pass.lengths tokens of each sequence
 * @param {number} [pass.kept] rows of each sequence that are read after the encoder
 * @param {number} [pass.images] pictures whose patches are projected
 * @param {readonly { rows: number, weights: number }[]} [pass.heads] products of the head
 * @param {boolean} [pass.trainsAttention] a frozen attention has no gradients of weights
 */
export function passFlops({ lengths, kept = 1, images = 0, heads = [], trainsAttention = true }) {
  const { width, layers, patchSize } = config;
  let [attention, experts, scores] = [0, 0, 0];
  for (const tokens of lengths) {
    const rows = (layers - 1) * tokens + kept;
    attention += width ** 2 * (6 * layers * tokens + 2 * rows);
    experts += 16 * width ** 2 * rows;
    scores += 4 * layers * tokens ** 2 * width;
  }
  // Pixels have no gradient.
  const patches = 2 * images * (imageTokens - 1) * width * 3 * patchSize ** 2;
  const head = heads.reduce((sum, { rows, weights }) => sum + 2 * rows * weights, 0);
  return (trainsAttention ? 3 : 2) * attention + 3 * (experts + scores + head) + 2 * patches;
}

/** Operations of one training step of ITC (with its VL branch), ITM and MLM: backward is twice forward. */
export function trainingFlops(pairs) {
  const unimodal = [...Array(pairs).fill(imageTokens), ...Array(pairs).fill(realTokens)];
  const branch = blockFlops(unimodal, config.layers - config.firstVlLayer);
  const fused = Array(4 * pairs).fill(imageTokens + realTokens);
  return 3 * (encoderFlops(unimodal, pairs) + branch + encoderFlops(fused, 4 * pairs));
}
