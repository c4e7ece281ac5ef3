/** onnxruntime-node on the exported graphs: the very same weights, threads and inputs, in float32 and with its own 8-bit products. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { config, paddedTokens, pictures, text } from '../base-model.mjs';
import { restMs } from '../measure.mjs';
import { quantisations, quantiseGraphs } from './onnx-int8.mjs';

/** Settings that are tried for every workload; the fastest is the peer. */
const candidates = {
  'threads spin': {},
  'threads sleep': { extra: { session: { intra_op: { allow_spinning: '0' } } } },
  'denormals are zero': { extra: { session: { set_denormal_as_zero: '1' } } },
  'extended graph': { graphOptimizationLevel: 'extended' },
};
const tries = 5;
/** In a quick run: the only setting, and tries of each graph. */
const quickSetting = 'denormals are zero';
const quickTries = 2;

/**
 * @param {string} folder the exported graphs
 * @param {object} options
 * @param {number} options.threads
 * @param {boolean} options.quick one setting instead of the fastest
 * @param {boolean} options.hasVnni whether products of full 8-bit numbers cannot saturate on this processor
 * @param {number} options.seed of the inputs that ranges are taken from
 * @returns the peer, or undefined where the package is not installed
 */
export async function onnxruntimePeer(folder, { threads, quick, hasVnni, seed }) {
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
  const open = (file, settings) => ort.InferenceSession.create(join(folder, file), { ...options, ...settings });
  const feeds = feedsOf(ort);
  /**
   * A call of one of these graphs, files by what their variant is called, with the settings that suit these inputs best: `settings` of
   * the call names both, `release` frees it. Calls of this function must not overlap, or they would time each other.
   */
  const fastest = async (files, inputs, output) => {
    let best;
    const settingNames = quick ? [quickSetting] : Object.keys(candidates);
    const all = Object.entries(files).flatMap(([variant, file]) =>
      settingNames.map((name) => ({ variant, file, name })),
    );
    for (const { variant, file, name } of all) {
      const session = await open(file, candidates[name]);
      let milliseconds = Number.POSITIVE_INFINITY;
      // One graph with one setting needs no trial.
      const trials = all.length === 1 ? 0 : quick ? quickTries : tries;
      if (trials > 0) await session.run(inputs);
      for (let i = 0; i < trials; i++) {
        await sleep(restMs);
        const started = performance.now();
        await session.run(inputs);
        milliseconds = Math.min(milliseconds, performance.now() - started);
      }
      const loser = !best || milliseconds < best.milliseconds ? best?.session : session;
      if (loser !== session) best = { session, settings: variant ? `${variant}, ${name}` : name, milliseconds };
      await loser?.release();
    }
    const { session, settings } = best;
    return Object.assign(async () => (await session.run(inputs))[output].data, {
      settings,
      release: () => session.release(),
    });
  };
  /** The calls, on the files of each graph. */
  const calls = (filesOf) => ({
    image: async (images) => fastest(await filesOf('image'), feeds.image(images), 'image_embed'),
    /** Texts padded to `length` tokens. */
    text: async (ids, length = paddedTokens) => fastest(await filesOf('text'), feeds.text(ids, length), 'text_embed'),
    fusion: async (images, ids, length = paddedTokens) =>
      fastest(await filesOf('fusion'), feeds.fusion(images, ids, length), 'itm_logits'),
  });
  const samples = calibration(feeds, seed);
  return {
    version: ort.env.versions.node ?? ort.env.versions.common,
    float32: calls((graph) => ({ '': `${graph}.onnx` })),
    int8: calls(async (graph) => {
      const files = await quantiseGraphs(ort, folder, graph, samples[graph], { weightLimit: hasVnni ? 127 : 63 });
      return Object.fromEntries(quantisations.map((variant) => [variant, files[variant]]));
    }),
  };
}

/** The inputs of each graph that static ranges are taken from: the pictures and texts of the bench. */
function calibration(feeds, seed) {
  const images = pictures(8, seed);
  const ids = [4, 8, 12, 16, 24, 32, 36, paddedTokens].map((tokens) => text(tokens).ids);
  return {
    image: [feeds.image(images)],
    text: [feeds.text(ids, paddedTokens)],
    fusion: [feeds.fusion(images, ids, paddedTokens)],
  };
}

/** Inputs of the graphs. */
function feedsOf(ort) {
  const text = (ids, length) => textsOf(ort, ids, length);
  const image = (images) => ({ pixels: pixelsOf(ort, images) });
  return { image, text, fusion: (images, ids, length) => ({ ...text(ids, length), ...image(images) }) };
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
