/** Inference of the base model against onnxruntime and PyTorch, in every type of weights. */
import { MomeError, Vlmo } from '../../dist/index.mjs';
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
import { torchPeer } from '../peers/torch.mjs';
import { median } from '../statistics.mjs';
import { peerOf, rowOf } from './row.mjs';

const dtypes = ['float32', 'bfloat16', 'int8'];
/** Largest relative difference of an answer from a peer's on the same weights. */
const sameAnswer = 1e-3;
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
    onnxruntime: (ort) => ({ onnxruntime: () => ort.image(images.slice(0, batch)) }),
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
        onnxruntime: () => ort.text(tokens, paddedTokens),
        ...(longest < paddedTokens && { 'onnxruntime, to the longest': () => ort.text(tokens, longest) }),
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
        onnxruntime: () => ort.fusion(images, repeated(8, ids), paddedTokens),
        'onnxruntime, to the longest': () => ort.fusion(images, repeated(8, ids), realTokens),
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

/** @returns rows of the table and what was absent */
export async function modelTable({ folder, seed, rounds, threads, log }) {
  const { model: path, onnx } = await prepareBaseModel(folder, seed);
  const models = {};
  for (const dtype of dtypes) models[dtype] = await Vlmo.load(path, { dtype, threads });
  // Before the peers, whose threads would be in the process too.
  const calls = await overheadOfCalls(models.int8, { seed, threads, log });
  const ort = await onnxruntimePeer(onnx, threads);
  const torch = torchPeer(path, pictures(8, seed), threads);
  const absent = [];
  if (!ort) absent.push('onnxruntime: install it with npm install --prefix bench --ignore-scripts');
  if (!torch) absent.push('torch: no Python with torch was found');
  const rows = [];
  for (const work of workloads(seed)) {
    log(work.name);
    const contestants = Object.fromEntries(dtypes.map((dtype) => [dtype, work.ours(models[dtype])]));
    const peers = ort ? work.onnxruntime(ort) : {};
    for (const [name, make] of Object.entries(peers)) contestants[name] = await make();
    if (torch) contestants.torch = await work.torch(torch);
    for (const name of Object.keys(contestants))
      if (!dtypes.includes(name)) await requireSameAnswer(work, contestants, name);
    const seconds = await alternate(contestants, rounds);
    const peerNames = Object.keys(seconds).filter((name) => !dtypes.includes(name));
    for (const dtype of dtypes) {
      const others = Object.fromEntries(
        peerNames.map((name) => [name, peerOf(seconds[name], seconds[dtype], contestants[name].settings)]),
      );
      const row = rowOf({ ...work, items: work.count, dtype, threads }, seconds[dtype], others);
      rows.push({ ...row, profile: await profileOf(models[dtype], work.items) });
    }
    for (const name of Object.keys(peers)) await contestants[name].release();
  }
  rows.push(...(await mixedRows({ models, seed, rounds, threads, log })), ...calls);
  const versions = { ...(ort && { onnxruntime: ort.version }), ...(torch && { torch: await torch.version() }) };
  await torch?.close();
  for (const model of Object.values(models)) await model.dispose();
  return { rows, absent, versions };
}

/** One pass over pictures, texts and pairs against three passes. */
async function mixedRows({ models, seed, rounds, threads, log }) {
  const rows = [];
  const { text: words } = text();
  for (const [images, texts, pairs] of [
    [4, 8, 4],
    [1, 2, 1],
  ]) {
    const all = pictures(images + pairs, seed);
    const items = {
      images: all.slice(0, images),
      texts: Array.from({ length: texts }, () => words),
      pairs: all.slice(images).map((image) => ({ image, text: words })),
    };
    const name = `mixed batch (${images} images, ${texts} texts, ${pairs} pairs)`;
    log(name);
    for (const dtype of ['float32', 'int8']) {
      const model = models[dtype];
      const seconds = await alternate(
        {
          together: () => model.mixed(items),
          apart: async () => {
            await model.embedImages(items.images);
            await model.embedTexts(items.texts);
            await model.match(items.pairs);
          },
        },
        rounds,
      );
      const lengths = [
        ...Array(images).fill(imageTokens),
        ...Array(texts).fill(realTokens),
        ...Array(pairs).fill(imageTokens + realTokens),
      ];
      const work = { name, items: lengths.length, unit: 'items', flops: encoderFlops(lengths, images + pairs) };
      rows.push(
        rowOf({ ...work, dtype, threads }, seconds.together, { apart: peerOf(seconds.apart, seconds.together) }),
      );
    }
  }
  return rows;
}

/** Rows of single calls of the shipped model and of `base`. */
async function overheadOfCalls(base, { seed, threads, log }) {
  const shipped = await Vlmo.load(undefined, { threads });
  const oneText = { texts: [text().text] };
  const oneImage = { images: pictures(1, seed) };
  const rows = [
    ...(await overheadRows('one text', 'shipped model', shipped, oneText, { threads, log })),
    ...(await overheadRows('one text', 'base', base, oneText, { threads, log })),
    ...(await overheadRows('one image', 'base', base, oneImage, { threads, log })),
  ];
  await shipped.dispose();
  return rows;
}

/** What one call takes outside kernels, and how much of that goes before the first: binding, waking the engine, planning. */
async function overheadRows(item, which, model, items, { threads, log }) {
  log(`${item} outside kernels, ${which}`);
  const seconds = { outside: [], start: [] };
  for (let round = 0; round < overheadRounds; round++) {
    const { outsideMilliseconds, startMilliseconds } = await model.profile(items);
    seconds.outside.push(outsideMilliseconds / 1000);
    seconds.start.push(startMilliseconds / 1000);
  }
  const work = { dtype: model.dtype, threads, items: 1, unit: 'calls', flops: 0 };
  return [
    rowOf({ ...work, name: `${item} outside kernels, ${which}` }, seconds.outside, {}),
    rowOf({ ...work, name: `${item} to its first kernel, ${which}` }, seconds.start, {}),
  ];
}

/** A bench of two models that answer differently would compare nothing. */
async function requireSameAnswer(work, contestants, peer) {
  const expected = await contestants[peer]();
  const actual = await contestants.float32();
  // `match` gives probabilities where the peers give logits.
  const ours = actual.length === expected.length ? actual : Float32Array.from(actual, (p) => Math.log(p / (1 - p)));
  const theirs =
    ours.length === expected.length
      ? expected
      : Float32Array.from(ours, (_, i) => expected[2 * i + 1] - expected[2 * i]);
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < ours.length; i++) {
    difference += (ours[i] - theirs[i]) ** 2;
    norm += theirs[i] ** 2;
  }
  const relative = Math.sqrt(difference / norm);
  if (!(relative <= sameAnswer))
    throw new MomeError('MOME_INTERNAL', `bench: ${work.name}: expected the answer of ${peer}, differs by ${relative}`);
}
