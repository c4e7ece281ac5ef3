/** One optimiser step of each stage of training, base model, against PyTorch. */
import { createRandom, initialParameters, Trainer } from '../../dist/train.mjs';
import {
  config,
  imageTokens,
  passFlops,
  pictures,
  prepareBaseModel,
  realTokens,
  trainingFlops,
} from '../base-model.mjs';
import { alternate } from '../measure.mjs';
import { torchAbsent, torchPeer } from '../peers/torch.mjs';
import { peerOf, rowOf } from './row.mjs';

/** Sequences of a step: pairs, texts, pictures or questions, and half as many statements about two pictures. */
const batchSize = 8;
/** Tokens of the texts that the text expert learns from before it sees pairs, and how many are masked. */
const longTokens = 196;
const maskedTokens = 29;
/** Patches that are masked of a picture, and visual tokens to choose from. */
const maskedPatches = 75;
const visualTokens = 8192;
/** Largest relative difference of the first loss from PyTorch's, in stages that draw nothing. */
const sameLoss = 1e-3;

const vocabulary = {
  vocabularySize: config.vocabularySize,
  maskId: 103,
  isSpecial: (id) => id < 200,
  isContinuation: () => false,
};

const repeated = (count, value) => Array.from({ length: count }, () => value);

/** The parameters that learn from texts alone. */
const textParameters =
  /text_embeddings|token_type_embeddings|mlp_text|norm2_text|mlm_score|relative_position_bias_table|transformer\.norm/;

/**
 * The stages: name of the row, items of a step, objectives, other options of the trainer and fields of the batch, what PyTorch is told
 * beside texts and pictures, and the work of a step. `draws`: masks or negatives, which are not those of the peer.
 */
function stages(seed) {
  const random = createRandom(seed, 2);
  const { width } = config;
  const textsOf = (count, tokens) =>
    Array.from({ length: count }, () => Int32Array.from({ length: tokens }, () => 1000 + random.integer(1000)));
  const fused = imageTokens + realTokens;
  const words = [{ weights: width ** 2 }, { weights: width * config.vocabularySize }];
  const pairs = {
    name: `step of ITC + ITM + MLM, batch ${batchSize}`,
    stage: 'pairs',
    unit: 'pairs',
    items: batchSize,
    draws: true,
    images: batchSize,
    texts: textsOf(batchSize, realTokens),
    options: { objectives: ['itc', 'itm', 'mlm'] },
    flops: trainingFlops(batchSize),
  };
  const answers = Array.from({ length: batchSize }, () => random.integer(config.answers));
  const truth = Array.from({ length: batchSize / 2 }, (_, i) => i % 2);
  return [
    pairs,
    {
      ...pairs,
      name: `${pairs.name}, activations computed again`,
      // Activations that are computed a second time do not count as work.
      options: { ...pairs.options, checkpointActivations: true },
      alone: true,
    },
    {
      name: `step on masked pictures, batch ${batchSize}`,
      stage: 'image',
      unit: 'pictures',
      items: batchSize,
      draws: true,
      images: batchSize,
      texts: [],
      config: { ...config, visualTokens },
      options: { objectives: ['mim'] },
      batch: { visualTokens: new Int32Array(batchSize * (imageTokens - 1)).map((_, i) => i % visualTokens) },
      peer: { masked: maskedPatches, visualTokens },
      flops: passFlops({
        lengths: repeated(batchSize, imageTokens),
        kept: maskedPatches,
        images: batchSize,
        heads: [{ rows: batchSize * maskedPatches, weights: width * visualTokens }],
      }),
    },
    {
      name: `step on masked texts of ${longTokens} tokens, batch ${batchSize}`,
      stage: 'text',
      unit: 'texts',
      items: batchSize,
      draws: true,
      images: 0,
      texts: textsOf(batchSize, longTokens),
      config: { ...config, maxTextLength: longTokens },
      options: { objectives: ['textmlm'], masking: 'budget', trainable: (name) => textParameters.test(name) },
      peer: { masked: maskedTokens },
      flops: passFlops({
        lengths: repeated(batchSize, longTokens),
        kept: maskedTokens,
        heads: words.map((head) => ({ ...head, rows: batchSize * maskedTokens })),
        trainsAttention: false,
      }),
    },
    {
      name: `step of retrieval, batch ${batchSize}`,
      stage: 'retrieval',
      unit: 'pairs',
      items: batchSize,
      images: batchSize,
      texts: textsOf(batchSize, realTokens),
      options: { objectives: ['irtr'] },
      flops: passFlops({
        lengths: [...repeated(batchSize, imageTokens), ...repeated(batchSize, realTokens)],
        images: batchSize,
      }),
    },
    {
      name: `step of VQA, batch ${batchSize}`,
      stage: 'vqa',
      unit: 'questions',
      items: batchSize,
      images: batchSize,
      texts: textsOf(batchSize, realTokens),
      options: { objectives: ['vqa'], headRate: 20 },
      batch: { answers: answers.map((label) => ({ labels: [label], scores: [0.9] })) },
      peer: { answers, score: 0.9 },
      flops: passFlops({ lengths: repeated(batchSize, fused), images: batchSize }),
    },
    {
      name: `step of NLVR2, batch ${batchSize / 2}`,
      stage: 'nlvr2',
      unit: 'statements',
      items: batchSize / 2,
      images: batchSize,
      texts: textsOf(batchSize / 2, realTokens),
      options: { objectives: ['nlvr2'] },
      batch: { truth: Int32Array.from(truth) },
      peer: { truth },
      flops: passFlops({ lengths: repeated(batchSize, fused), images: batchSize }),
    },
  ];
}

export const trainingTable = {
  names: ({ seed }) => stages(seed).map(({ name }) => name),
  measure: async (run) => {
    const { model } = await prepareBaseModel(run.folder, run.seed);
    const images = pictures(batchSize, run.seed);
    const torch = run.torch ? torchPeer(model, images, run.threads, run.signal) : undefined;
    if (!torch) run.absent.push(torchAbsent);
    try {
      for (const stage of stages(run.seed)) {
        if (run.wants(stage.name)) run.add(await stageRow(stage, run, { images, torch }));
      }
      if (torch) run.versions.torch = await torch.version();
    } finally {
      await torch?.close();
    }
  },
};

/** The row of one stage. */
async function stageRow(stage, run, { images, torch }) {
  const { seed, rounds, threads, signal } = run;
  run.log(stage.name);
  const own = stage.config ?? config;
  const trainer = await Trainer.create(
    own,
    await initialParameters(own, createRandom(seed)),
    vocabulary,
    {
      schedule: { learningRate: 1e-5, totalSteps: 1000, warmupSteps: 1, decay: 'constant' },
      clipNorm: 1,
      seed,
      ...stage.options,
    },
    { threads },
  );
  const batch = {
    texts: stage.texts,
    ...(stage.images > 0 && { bytes: Buffer.concat(images.slice(0, stage.images).map(({ data }) => data)) }),
    ...stage.batch,
  };
  const losses = {};
  const contestants = {
    ours: async () => {
      const { loss } = await trainer.train(batch);
      losses.ours ??= loss;
    },
  };
  try {
    const step =
      torch && !stage.alone
        ? await run.attempt('torch', stage.name, () => torch.train(stage.stage, stage.texts, stage.images, stage.peer))
        : undefined;
    if (step) {
      contestants.torch = async () => {
        const [loss] = await step();
        losses.torch ??= loss;
      };
    }
    const mayFail = (name, problem) => name === 'torch' && run.lose(name, stage.name, problem);
    const seconds = await alternate(contestants, rounds, { signal, mayFail });
    if (seconds.torch && !stage.draws) requireSameLoss(stage.name, losses);
    const work = {
      name: stage.name,
      dtype: 'float32',
      threads,
      items: stage.items,
      unit: stage.unit,
      flops: stage.flops,
      note: `arena ${Math.round(trainer.engine.memory().arenaBytes / 2 ** 20)} MiB`,
    };
    const peers = seconds.torch ? { torch: peerOf(seconds.torch, seconds.ours, step.settings) } : {};
    return rowOf(work, seconds.ours, peers);
  } finally {
    trainer.dispose();
    await torch?.close();
  }
}

/** @throws where both did not compute the same: their times could not be compared */
function requireSameLoss(name, { ours, torch }) {
  if (!(Math.abs(ours - torch) <= sameLoss * Math.abs(torch)))
    throw new Error(`${name}: expected the first loss ${torch} of PyTorch, got ${ours}`);
}
