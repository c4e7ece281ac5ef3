/** Inference of the base model against onnxruntime and PyTorch, in every type of weights. */
import { MomeError, Vlmo } from '../../dist/index.mjs';
import { different, unlike } from '../answers.mjs';
import {
  encoderFlops,
  imageTokens,
  paddedTokens,
  pictures,
  prepareBaseModel,
  realTokens,
  text,
} from '../base-model.mjs';
import { alternate } from '../measure.mjs';
import { onnxruntimePeer } from '../peers/onnxruntime.mjs';
import { torchAbsent, torchPeer } from '../peers/torch.mjs';
import { median } from '../statistics.mjs';
import { peerOf, rowOf } from './row.mjs';

const dtypes = ['float32', 'bfloat16', 'int8'];
/** onnxruntime with its own 8-bit products, never padded: a column of its own beside our 8-bit rows. */
const int8Peer = 'onnxruntime int8';
/** Largest relative difference of an answer from a peer's on the same weights. */
const sameAnswer = 1e-3;
/** Least cosine between the answers in float32 and those of a peer that has 8-bit weights. */
const alikeInt8 = 0.99;
const overheadRounds = 200;
const profiledCalls = 5;
/** Tokens of the shortest text where they differ. */
const shortest = 4;

/** The work of one row: what we run, what the peers run, how much it is. */
function workloads(seed) {
  const images = pictures(8, seed);
  const { text: words, ids } = text();
  const repeated = (count, value) => Array.from({ length: count }, () => value);
  const pairs = images.map((image) => ({ image, text: words }));
  const fused = imageTokens + realTokens;
  const imageRow = (batch) => ({
    name: `image, batch ${batch}`,
    count: batch,
    unit: 'images',
    flops: encoderFlops(repeated(batch, imageTokens), batch),
    items: { images: images.slice(0, batch) },
    ours: (model) => async () => (await model.embedImages(images.slice(0, batch))).embeddings,
    onnxruntime: (ort) => ({
      onnxruntime: () => ort.float32.image(images.slice(0, batch)),
      [int8Peer]: () => ort.int8.image(images.slice(0, batch)),
    }),
    torch: (torch) => torch.image(batch),
  });
  const textRow = (name, texts) => {
    const tokens = texts.map((each) => each.ids);
    const longest = Math.max(...tokens.map(({ length }) => length));
    return {
      name,
      count: texts.length,
      unit: 'texts',
      flops: encoderFlops(
        tokens.map(({ length }) => length),
        0,
      ),
      items: { texts: texts.map((each) => each.text) },
      ours: (model) => async () => (await model.embedTexts(texts.map((each) => each.text))).embeddings,
      onnxruntime: (ort) => ({
        onnxruntime: () => ort.float32.text(tokens, paddedTokens),
        ...(longest < paddedTokens && { 'onnxruntime, to the longest': () => ort.float32.text(tokens, longest) }),
        [int8Peer]: () => ort.int8.text(tokens, longest),
      }),
      torch: (torch) => torch.text(tokens, paddedTokens),
    };
  };
  const sameLength = (batch) =>
    textRow(`text, batch ${batch} (${realTokens} of ${paddedTokens} tokens)`, repeated(batch, { text: words, ids }));
  const allLengths = Array.from({ length: 32 }, (_, i) => text(shortest + ((i * 13) % (paddedTokens + 1 - shortest))));
  return [
    imageRow(8),
    imageRow(1),
    {
      name: `fusion, batch 8 (${realTokens} of ${paddedTokens} tokens)`,
      count: 8,
      unit: 'pairs',
      flops: encoderFlops(repeated(8, fused), 8),
      items: { pairs },
      ours: (model) => async () => model.match(pairs),
      onnxruntime: (ort) => ({
        onnxruntime: () => ort.float32.fusion(images, repeated(8, ids), paddedTokens),
        'onnxruntime, to the longest': () => ort.float32.fusion(images, repeated(8, ids), realTokens),
        [int8Peer]: () => ort.int8.fusion(images, repeated(8, ids), realTokens),
      }),
      torch: (torch) => torch.fusion(repeated(8, ids), paddedTokens),
    },
    sameLength(32),
    textRow(`text, batch 32 (${shortest} to ${paddedTokens} tokens)`, allLengths),
    sameLength(1),
  ];
}

/** Where the time of a call went: milliseconds of each op and outside kernels, medians of a few calls. */
async function profileOf(model, items) {
  const profiles = [];
  for (let i = 0; i < profiledCalls; i++) profiles.push(await model.profile(items));
  const ops = profiles[0].ops.map(({ op }) => {
    const times = profiles.map((profile) => profile.ops.find((each) => each.op === op).milliseconds);
    return { op, milliseconds: median(times) };
  });
  return { ops, outsideMilliseconds: median(profiles.map((profile) => profile.outsideMilliseconds)) };
}

const mixtures = [
  { images: 4, texts: 8, pairs: 4 },
  { images: 1, texts: 2, pairs: 1 },
];
const mixtureName = ({ images, texts, pairs }) => `mixed batch (${images} images, ${texts} texts, ${pairs} pairs)`;

/** Single calls whose time outside kernels is measured: of what, with which model. */
const overheads = [
  { item: 'one text', which: 'shipped model' },
  { item: 'one text', which: 'base' },
  { item: 'one image', which: 'base' },
];
const overheadNames = ({ item, which }) => [
  `${item} outside kernels, ${which}`,
  `${item} to its first kernel, ${which}`,
];

/** The rows that say most, for a run of a few minutes. */
export const mainRows = [
  'image, batch 8',
  'image, batch 1',
  `fusion, batch 8 (${realTokens} of ${paddedTokens} tokens)`,
  `text, batch 32 (${realTokens} of ${paddedTokens} tokens)`,
  `text, batch 1 (${realTokens} of ${paddedTokens} tokens)`,
];

export const modelTable = {
  names: ({ seed }) => [
    ...workloads(seed).map(({ name }) => name),
    ...mixtures.map(mixtureName),
    ...overheads.flatMap(overheadNames),
  ],
  measure: async (run) => {
    const { folder, seed, threads, signal } = run;
    const works = workloads(seed).filter(({ name }) => run.wants(name));
    const { model: path, onnx } = await prepareBaseModel(folder, seed, { onnx: works.length > 0 });
    const models = {};
    for (const dtype of dtypes) models[dtype] = await Vlmo.load(path, { dtype, threads });
    let torch;
    try {
      // Before the peers, whose threads would be in the process too.
      await overheadOfCalls(models.int8, run);
      await mixedRows(models, run);
      if (works.length === 0) return;
      const ort = await onnxruntimePeer(onnx, { threads, quick: run.quick, hasVnni: run.hasVnni, seed });
      torch = run.torch ? torchPeer(path, pictures(8, seed), threads, signal) : undefined;
      if (ort) run.versions.onnxruntime = ort.version;
      else run.absent.push('onnxruntime: install it with npm install --prefix bench --ignore-scripts');
      if (torch) run.versions.torch = (await run.attempt('torch', 'its version', torch.version)) ?? 'unknown';
      else run.absent.push(run.torch ? torchAbsent : 'torch: not asked for');
      for (const work of works) await workRows(work, run, { models, ort, torch });
    } finally {
      await torch?.close();
      for (const model of Object.values(models)) await model.dispose();
    }
  },
};

/** The rows of one workload, a row for each type of weights. */
async function workRows(work, run, { models, ort, torch }) {
  const { rounds, threads, signal } = run;
  if (!run.wants(work.name)) return;
  run.log(work.name);
  const contestants = Object.fromEntries(dtypes.map((dtype) => [dtype, work.ours(models[dtype])]));
  const makers = {
    ...(ort && work.onnxruntime(ort)),
    ...(torch && { torch: () => work.torch(torch) }),
  };
  const peers = {};
  for (const [name, make] of Object.entries(makers)) {
    const call = await run.attempt(name, work.name, make);
    const expected = call && (await run.attempt(name, work.name, call));
    if (!expected) continue;
    await requireSameAnswer(work, contestants.float32, name, expected);
    peers[name] = call;
  }
  const mayFail = (name, problem) => name in peers && run.lose(name, work.name, problem);
  const seconds = await alternate({ ...contestants, ...peers }, rounds, { signal, mayFail });
  const rows = [];
  for (const dtype of dtypes) {
    const beside = Object.keys(peers).filter((name) => seconds[name] && (name !== int8Peer || dtype === 'int8'));
    const others = beside.map((name) => [name, peerOf(seconds[name], seconds[dtype], peers[name].settings)]);
    const row = rowOf({ ...work, items: work.count, dtype, threads }, seconds[dtype], Object.fromEntries(others));
    const profiled = !run.quick && !signal?.aborted;
    rows.push(profiled ? { ...row, profile: await profileOf(models[dtype], work.items) } : row);
  }
  run.add(...rows);
  if (!signal?.aborted) for (const peer of Object.values(peers)) await peer.release?.();
}

/** One pass over pictures, texts and pairs against three passes. */
async function mixedRows(models, run) {
  const { seed, rounds, threads, signal } = run;
  const { text: words } = text();
  for (const mixture of mixtures) {
    const name = mixtureName(mixture);
    if (!run.wants(name)) continue;
    const { images, texts, pairs } = mixture;
    const all = pictures(images + pairs, seed);
    const items = {
      images: all.slice(0, images),
      texts: Array.from({ length: texts }, () => words),
      pairs: all.slice(images).map((image) => ({ image, text: words })),
    };
    run.log(name);
    const rows = [];
    for (const dtype of ['float32', 'int8']) {
      const model = models[dtype];
      const contestants = {
        together: () => model.mixed(items),
        apart: async () => {
          await model.embedImages(items.images);
          await model.embedTexts(items.texts);
          await model.match(items.pairs);
        },
      };
      const seconds = await alternate(contestants, rounds, { signal });
      const lengths = [
        ...Array(images).fill(imageTokens),
        ...Array(texts).fill(realTokens),
        ...Array(pairs).fill(imageTokens + realTokens),
      ];
      const work = { name, items: lengths.length, unit: 'items', flops: encoderFlops(lengths, images + pairs) };
      const apart = peerOf(seconds.apart, seconds.together);
      rows.push(rowOf({ ...work, dtype, threads }, seconds.together, { apart }));
    }
    run.add(...rows);
  }
}

/** Rows of single calls of the shipped model and of `base`. */
async function overheadOfCalls(base, run) {
  const items = { 'one text': { texts: [text().text] }, 'one image': { images: pictures(1, run.seed) } };
  for (const overhead of overheads) {
    if (!run.wants(...overheadNames(overhead))) continue;
    run.log(overheadNames(overhead)[0]);
    if (overhead.which === 'base') {
      run.add(...(await overheadRows(overhead, base, items[overhead.item], run)));
      continue;
    }
    const shipped = await Vlmo.load(undefined, { threads: run.threads });
    run.add(...(await overheadRows(overhead, shipped, items[overhead.item], run)));
    await shipped.dispose();
  }
}

/** What one call takes outside kernels, and how much of that goes before the first: binding, waking the engine, planning. */
async function overheadRows(overhead, model, items, { threads, signal }) {
  const [outside, start] = [[], []];
  for (let round = 0; round < overheadRounds; round++) {
    signal?.throwIfAborted();
    const { outsideMilliseconds, startMilliseconds } = await model.profile(items);
    outside.push(outsideMilliseconds / 1000);
    start.push(startMilliseconds / 1000);
  }
  const work = { dtype: model.dtype, threads, items: 1, unit: 'calls', flops: 0 };
  const names = overheadNames(overhead);
  return [rowOf({ ...work, name: names[0] }, outside, {}), rowOf({ ...work, name: names[1] }, start, {})];
}

/** A bench of two models that answer differently would compare nothing. */
async function requireSameAnswer(work, call, peer, expected) {
  const actual = await call();
  // `match` gives probabilities where the peers give logits.
  const ours = actual.length === expected.length ? actual : Float32Array.from(actual, (p) => Math.log(p / (1 - p)));
  const theirs =
    ours.length === expected.length
      ? expected
      : Float32Array.from(ours, (_, i) => expected[2 * i + 1] - expected[2 * i]);
  const problem = peer === int8Peer ? unlike(ours, theirs, alikeInt8) : different(ours, theirs, sameAnswer);
  if (problem) throw new MomeError('MOME_INTERNAL', `bench: ${work.name}: expected the answer of ${peer}, ${problem}`);
}
