/** onnxruntime-node on the exported graphs: the very same weights, threads and inputs. */
import { join } from 'node:path';
import { config, paddedTokens } from '../base-model.mjs';

/** @returns the peer, or undefined where the package is not installed */
export async function onnxruntimePeer(folder, threads) {
  const ort = await import('onnxruntime-node').then(
    (module) => module.default,
    () => undefined,
  );
  if (!ort) return undefined;
  const options = {
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    enableCpuMemArena: true,
    enableMemPattern: true,
  };
  const sessions = new Map();
  const session = async (name) => {
    if (!sessions.has(name))
      sessions.set(name, await ort.InferenceSession.create(join(folder, `${name}.onnx`), options));
    return sessions.get(name);
  };
  return {
    version: ort.env.versions.node ?? ort.env.versions.common,
    image: async (images) => {
      const image = await session('image');
      const feeds = { pixels: pixelsOf(ort, images) };
      return async () => (await image.run(feeds)).image_embed.data;
    },
    /** Texts padded to `length` tokens. */
    text: async (ids, length = paddedTokens) => {
      const text = await session('text');
      const feeds = textsOf(ort, ids, length);
      return async () => (await text.run(feeds)).text_embed.data;
    },
    fusion: async (images, ids, length = paddedTokens) => {
      const fusion = await session('fusion');
      const feeds = { ...textsOf(ort, ids, length), pixels: pixelsOf(ort, images) };
      return async () => (await fusion.run(feeds)).itm_logits.data;
    },
    close: async () => {
      for (const open of sessions.values()) await open.release();
    },
  };
}

function pixelsOf(ort, images) {
  const size = config.imageSize;
  const area = size * size;
  const values = new Float32Array(images.length * 3 * area);
  for (const [i, { data }] of images.entries()) {
    for (let at = 0; at < area; at++)
      for (let c = 0; c < 3; c++) values[(i * 3 + c) * area + at] = (data[3 * at + c] / 255 - 0.5) / 0.5;
  }
  return new ort.Tensor('float32', values, [images.length, 3, size, size]);
}

function textsOf(ort, ids, length) {
  const padded = new BigInt64Array(ids.length * length);
  const mask = new BigInt64Array(ids.length * length);
  for (const [i, one] of ids.entries()) {
    for (const [token, id] of one.entries()) {
      padded[i * length + token] = BigInt(id);
      mask[i * length + token] = 1n;
    }
  }
  const dims = [ids.length, length];
  return { text_ids: new ort.Tensor('int64', padded, dims), text_mask: new ort.Tensor('int64', mask, dims) };
}
