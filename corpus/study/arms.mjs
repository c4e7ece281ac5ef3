/**
 * The arms of the study: the paper's questions in miniature, as recipes. Every arm ends with a stage of pairs of the same length, and differs from
 * `stagewise` in one thing.
 */

/** Small enough that an arm takes some minutes of two cores. */
const model = {
  imageSize: 32,
  patchSize: 8,
  width: 128,
  layers: 6,
  heads: 4,
  hiddenRatio: 4,
  firstVlLayer: 4,
  positions: 'absolute',
  layerScale: null,
  maxTextLength: 24,
  maxTextLengthOfInit: 24,
  answers: 1,
};
/** The parameters that learn from texts: the shared attention is not among them. */
const textParameters = 'text_embeddings|token_type_embeddings|mlp_text|norm2_text|mlm_score|transformer\\.norm';
const schedule = { learningRate: 1e-3, warmupSteps: 0.05, decay: 'cosine', endLearningRate: 1e-5 };
const steps = { images: 400, texts: 600, pairs: 900, longPairs: 1500 };

const images = (data) => ({
  name: 'images',
  data: { pictures: data.pairs },
  visualTokens: 256,
  vlExperts: false,
  decayRule: 'beit',
  groups: false,
  clipNorm: 3,
  batchSize: 128,
  phases: [{ objectives: ['mim'], steps: steps.images, ...schedule }],
});
const texts = (data, trainable = textParameters) => ({
  name: 'texts',
  data: { texts: data.texts },
  vlExperts: false,
  batchSize: 128,
  phases: [{ objectives: ['textmlm'], steps: steps.texts, ...schedule, ...(trainable && { trainable }) }],
});
/** Pairs: a third of the steps without hard negatives, which a fusion encoder needs to get off the ground. */
const pairs = (data, objectives = ['itc', 'itm', 'mlm'], { length = steps.pairs, ...settings } = {}) => {
  const fused = objectives.length > 1 ? { fusedPairs: 48 } : {};
  const easy = Math.round(length / 3);
  const phase = { objectives, ...schedule, vlBranch: false, ...fused };
  return {
    name: 'pairs',
    data: { pairs: data.pairs },
    batchSize: 128,
    ...settings,
    phases: [
      { ...phase, steps: easy, decay: 'constant', negativeSharpness: 0 },
      { ...phase, steps: length - easy, warmupSteps: 0, negativeSharpness: 1 },
    ],
  };
};

/** Arms by name: what is compared, and the stages. @param data paths of `pairs` and `texts` */
export const arms = {
  stagewise: {
    says: 'images, then texts with frozen attention, then pairs by itc, itm and mlm',
    stages: (data) => [images(data), texts(data), pairs(data)],
  },
  scratch: { says: 'pairs alone', stages: (data) => [pairs(data)] },
  'scratch-long': {
    says: 'pairs alone, for about the time that all stages take',
    stages: (data) => [pairs(data, undefined, { length: steps.longPairs })],
  },
  'no-images': {
    says: 'without the stage of images, so that attention learns from texts',
    stages: (data) => [texts(data, null), pairs(data)],
  },
  'no-texts': { says: 'without the stage of texts', stages: (data) => [images(data), pairs(data)] },
  'attention-learns': {
    says: 'attention learns in the stage of texts, too',
    stages: (data) => [images(data), texts(data, null), pairs(data)],
  },
  'no-vl-experts': {
    says: 'without vision-language experts: text and image experts in all layers',
    stages: (data) => [images(data), texts(data), pairs(data, undefined, { vlExperts: false })],
  },
  'shared-ffn': {
    says: 'one feed-forward layer for texts, pictures and both: as much work for a token, fewer parameters',
    model: { sharedFfn: true },
    stages: (data) => [images(data), texts(data, textParameters.replaceAll('_text|', '_shared|')), pairs(data)],
  },
  itc: { says: 'pairs by itc alone', stages: (data) => [images(data), texts(data), pairs(data, ['itc'])] },
  'itc-itm': {
    says: 'pairs by itc and itm, without mlm',
    stages: (data) => [images(data), texts(data), pairs(data, ['itc', 'itm'])],
  },
};

/**
 * The chain of an arm.
 *
 * @param data `{ pairs, texts, vocabulary }`, paths
 * @param scale of the steps, for a try
 */
export function chainOf(name, data, seed, scale = 1) {
  const stages = arms[name].stages(data).map((stage, at) => ({
    ...stage,
    seed: 100 * seed + at,
    phases: stage.phases.map((phase) => ({ ...phase, steps: Math.max(2, Math.round(phase.steps * scale)) })),
  }));
  return {
    model: { ...model, ...arms[name].model },
    vocabulary: data.vocabulary,
    weightDecay: 0.05,
    checkpointEvery: 200,
    stages,
  };
}

/** Mean, smallest and largest of some numbers. */
export function spreadOf(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, least: Math.min(...values), most: Math.max(...values), count: values.length };
}

/** What is reported of each run. */
export const measures = {
  dualR1: 'dual R@1',
  dualR10: 'dual R@10',
  rerankedR1: 're-ranked R@1',
  minutes: 'minutes of processor time',
  dualSeconds: 'seconds to search, dual',
  rerankedSeconds: 'seconds to re-rank',
};

/** A table of Markdown: mean and range over the seeds of each arm. @param results `{ arm, seed, ...numbers or null }` */
export function tableOf(results) {
  const lines = [
    `| arm | seeds | ${Object.values(measures).join(' | ')} |`,
    `| --- | --- | ${Object.keys(measures)
      .map(() => '---')
      .join(' | ')} |`,
  ];
  for (const [name, { says }] of Object.entries(arms)) {
    const own = results.filter(({ arm }) => arm === name);
    if (own.length === 0) continue;
    const cells = Object.keys(measures).map((measure) => {
      const values = own.map((result) => result[measure]).filter((value) => value !== null && value !== undefined);
      if (values.length === 0) return '-';
      const { mean, least, most } = spreadOf(values);
      const digits = measure.endsWith('R1') || measure.endsWith('R10') ? 3 : 1;
      return `${mean.toFixed(digits)} (${least.toFixed(digits)} to ${most.toFixed(digits)})`;
    });
    lines.push(`| ${name}: ${says} | ${own.length} | ${cells.join(' | ')} |`);
  }
  return `${lines.join('\n')}\n`;
}
