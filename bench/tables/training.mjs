/** One optimiser step on image-text pairs, base model, against PyTorch. */
import { createRandom, initialParameters, Trainer } from '../../dist/train.mjs';
import { config, pictures, prepareBaseModel, realTokens, trainingFlops } from '../base-model.mjs';
import { alternate } from '../measure.mjs';
import { torchPeer } from '../peers/torch.mjs';
import { peerOf, rowOf } from './row.mjs';

const pairs = 8;

/** @returns rows of the table and what was absent */
export async function trainingTable({ folder, seed, rounds, threads, log }) {
  const { model } = await prepareBaseModel(folder, seed);
  const images = pictures(pairs, seed);
  const torch = torchPeer(model, images, threads);
  const random = createRandom(seed, 2);
  const batch = {
    bytes: Buffer.concat(images.map(({ data }) => data)),
    texts: Array.from({ length: pairs }, () =>
      Int32Array.from({ length: realTokens }, () => 1000 + random.integer(1000)),
    ),
  };
  const name = `step of ITC + ITM + MLM, batch ${pairs}`;
  const rows = [];
  for (const checkpointActivations of [false, true]) {
    log(checkpointActivations ? `${name}, activations computed again` : name);
    const trainer = await Trainer.create(
      config,
      await initialParameters(config, createRandom(seed)),
      { vocabularySize: config.vocabularySize, maskId: 103, isSpecial: (id) => id < 200, isContinuation: () => false },
      {
        objectives: ['itc', 'itm', 'mlm'],
        schedule: { learningRate: 1e-5, totalSteps: 1000, warmupSteps: 1, decay: 'constant' },
        clipNorm: 1,
        seed,
        checkpointActivations,
      },
      { threads },
    );
    const contestants = { ours: () => trainer.train(batch) };
    const comparable = torch && !checkpointActivations;
    if (comparable) contestants.torch = await torch.train(batch.texts);
    const seconds = await alternate(contestants, rounds);
    const work = {
      name: checkpointActivations ? `${name}, activations computed again` : name,
      dtype: 'float32',
      threads,
      items: pairs,
      unit: 'pairs',
      // Activations that are computed a second time do not count as work.
      flops: trainingFlops(pairs),
      note: `arena ${Math.round(trainer.engine.memory().arenaBytes / 2 ** 20)} MiB`,
    };
    rows.push(
      rowOf(
        work,
        seconds.ours,
        comparable ? { torch: peerOf(seconds.torch, seconds.ours, contestants.torch.settings) } : {},
      ),
    );
    trainer.dispose();
  }
  const version = await torch?.version();
  await torch?.close();
  return {
    rows,
    absent: torch ? [] : ['torch: no Python with torch was found'],
    versions: torch ? { torch: version } : {},
  };
}
