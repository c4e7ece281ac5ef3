/**
 * Base images, batch 8: how much of the machine's fused multiply-add peak a forward pass reaches. Peak and model alternate in one run;
 * shared machines vary, so the fast decile, the median and the slow decile are given.
 *
 *   node bench/base-images.mjs [rounds, default 20]
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { diagnose, presets, Vlmo } from '../dist/index.mjs';
import { createRandom, initialParameters, writeModel } from '../dist/train.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const rounds = Number(process.argv[2] ?? 20);
const batch = 8;
const config = { ...presets.base, vocabularySize: 100, answers: 2 };
const tokens = 1 + (config.imageSize / config.patchSize) ** 2;

/** Multiplications and additions of one picture: products of the blocks, attention, patches. */
const flopsPerImage =
  config.layers * (24 * tokens * config.width ** 2 + 4 * tokens ** 2 * config.width) +
  2 * (tokens - 1) * config.width * 3 * config.patchSize ** 2;

const folder = mkdtempSync(join(tmpdir(), 'mome-bench-'));
try {
  const { cpu } = await diagnose();
  const peakProgram = join(folder, 'fma_peak');
  const flags = cpu.best === 'avx512' ? ['-mavx512f'] : ['-mavx2', '-mfma'];
  execFileSync('g++', ['-O2', ...flags, '-o', peakProgram, join(root, 'bench', 'fma_peak.cc'), '-pthread']);
  await writeModel(folder, config, initialParameters(config, createRandom(1)), {
    dtype: 'bfloat16',
    vocabularyFiles: [],
  });
  const model = await Vlmo.load(folder);
  const size = config.imageSize;
  const images = Array.from({ length: batch }, (_, i) => ({
    data: new Uint8Array(size * size * 3).map((_, at) => (at * 31 + i * 17) & 255),
    width: size,
    height: size,
    channels: 3,
  }));
  await model.embedImages(images);
  const shares = [];
  const gflops = [];
  const peaks = [];
  for (let round = 0; round < rounds; round++) {
    const peak = Number(execFileSync(peakProgram, [String(cpu.availableCores)], { encoding: 'utf8' }));
    const started = performance.now();
    await model.embedImages(images);
    const rate = (batch * flopsPerImage) / ((performance.now() - started) / 1000) / 1e9;
    peaks.push(peak);
    gflops.push(rate);
    shares.push(rate / peak);
  }
  await model.dispose();
  const at = (values, share) => [...values].sort((a, b) => b - a)[Math.floor(share * (values.length - 1))];
  const spread = (values) => ({ fastDecile: at(values, 0.1), median: at(values, 0.5), slowDecile: at(values, 0.9) });
  const result = {
    bench: 'base-images',
    batch,
    rounds,
    cpu: cpu.model,
    cores: cpu.availableCores,
    target: cpu.best,
    node: process.version,
    gflopPerImage: flopsPerImage / 1e9,
    gflops: spread(gflops),
    peakGflops: spread(peaks),
    shareOfPeak: spread(shares),
    fastDecileShare: at(gflops, 0.1) / at(peaks, 0.1),
  };
  mkdirSync(join(root, 'bench', 'results'), { recursive: true });
  const name = `base-images-${cpu.model.toLowerCase().replace(/[^a-z0-9]+/g, '-')}-${cpu.best}.json`;
  writeFileSync(join(root, 'bench', 'results', name), `${JSON.stringify(result, null, 2)}\n`);
  process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
