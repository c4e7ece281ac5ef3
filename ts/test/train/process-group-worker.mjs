/**
 * What each process of the tests of process groups does, on the built package: some steps on its part of fixed batches. Process 0 writes
 * the course as JSON. Arguments: output file; `config`, `steps` and trainer options as JSON; the number of texts of each process as JSON; and what
 * goes wrong, if anything: `lost` for process 1 to be killed in step 2, `apart` for processes that do not know of each other.
 */
import { writeFile } from 'node:fs/promises';
import { createRandom, initialParameters, openProcessGroup, Trainer } from 'mome/train';

const vocabulary = { vocabularySize: 40, maskId: 4, isSpecial: (id) => id < 5, isContinuation: () => false };
const [output, options, sizes, planted] = process.argv.slice(2);
const { config, steps, ...given } = JSON.parse(options);
const pictureBytes = 3 * config.imageSize ** 2;

function batchOf(step, pairs, begin, end) {
  const random = createRandom(9, step);
  const bytes = new Uint8Array(pairs * pictureBytes);
  for (let i = 0; i < bytes.length; i++) bytes[i] = random.integer(256);
  const text = (i) => Int32Array.of(2, ...Array.from({ length: 1 + (i % 4) }, () => 5 + random.integer(35)), 3);
  const texts = Array.from({ length: pairs }, (_, i) => text(i));
  const groups = Int32Array.from(texts, (_, i) => Math.floor(i / 2));
  return {
    bytes: bytes.slice(begin * pictureBytes, end * pictureBytes),
    texts: texts.slice(begin, end),
    groups: groups.slice(begin, end),
  };
}

const counts = JSON.parse(sizes);
const group = await openProcessGroup();
const begin = counts.slice(0, group.rank).reduce((sum, count) => sum + count, 0);
const total = counts.reduce((sum, count) => sum + count, 0);
const trainer = await Trainer.create(
  config,
  await initialParameters(config, createRandom(5)),
  vocabulary,
  {
    objectives: ['itc', 'itm', 'mlm'],
    schedule: { learningRate: 1e-3, totalSteps: 100, warmupSteps: 0, decay: 'cosine' },
    clipNorm: 1,
    // AdamW makes less of the last bits of gradients that are almost 0.
    eps: 1e-6,
    seed: 3,
    ...given,
    ...(planted !== 'apart' && { processGroup: group }),
  },
  { threads: 1 },
);
try {
  const numbers = [];
  for (let step = 0; step < steps; step++) {
    if (planted === 'lost' && step === 2 && group.rank === 1) process.kill(process.pid, 'SIGKILL');
    const { losses, gradientNorm } = await trainer.train(batchOf(step, total, begin, begin + counts[group.rank]));
    numbers.push(...Object.values(losses), gradientNorm);
  }
  const weights = [...(await trainer.parameters()).values()];
  const all = await group.allGather(new Uint8Array(Buffer.concat(weights.map(({ buffer }) => Buffer.from(buffer)))));
  const same = all.every((bytes) => Buffer.compare(bytes, all[0]) === 0);
  if (group.rank === 0)
    await writeFile(output, JSON.stringify({ numbers, weights: weights.map((values) => [...values]), same }));
  await group.dispose();
} catch ({ code, message }) {
  await writeFile(`${output}.${group.rank}`, JSON.stringify({ code, message, step: trainer.step }));
  process.exit(1);
}
