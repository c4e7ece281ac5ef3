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
import { peerOf, rowOf } from './row.mjs';

const dtypes = ['float32', 'bfloat16', 'int8'];
/** Largest relative difference of an answer from a peer's on the same weights. */
const sameAnswer = 1e-3;
const overheadRounds = 200;

/** The work of one row: what we run, what the peers run, how much it is. */
function workloads(seed) {
  const images = pictures(8, seed);
  const { text: words, ids } = text();
  const texts = (count) => Array.from({ length: count }, () => words);
  const tokens = (count) => Array.from({ length: count }, () => ids);
  const pairs = images.map((image) => ({ image, text: words }));
  const fused = imageTokens + realTokens;
  const imageRow = (batch) => ({
    name: `image, batch ${batch}`,
    items: batch,
    unit: 'images',
    flops: encoderFlops(Array(batch).fill(imageTokens), batch),
    ours: (model) => async () => (await model.embedImages(images.slice(0, batch))).embeddings,
    onnxruntime: (ort) => ({ onnxruntime: () => ort.image(images.slice(0, batch)) }),
    torch: (torch) => torch.image(batch),
  });
  const textRow = (batch) => ({
    name: `text, batch ${batch} (${realTokens} of ${paddedTokens} tokens)`,
    items: batch,
    unit: 'texts',
    flops: encoderFlops(Array(batch).fill(realTokens), 0),
    ours: (model) => async () => (await model.embedTexts(texts(batch))).embeddings,
    onnxruntime: (ort) => ({
      onnxruntime: () => ort.text(tokens(batch), paddedTokens),
      'onnxruntime, no padding': () => ort.text(tokens(batch), realTokens),
    }),
    torch: (torch) => torch.text(tokens(batch), paddedTokens),
  });
  return [
    imageRow(8),
    imageRow(1),
    {
      name: `fusion, batch 8 (${realTokens} of ${paddedTokens} tokens)`,
      items: 8,
      unit: 'pairs',
      flops: encoderFlops(Array(8).fill(fused), 8),
      ours: (model) => async () => model.match(pairs),
      onnxruntime: (ort) => ({
        onnxruntime: () => ort.fusion(images, tokens(8), paddedTokens),
        'onnxruntime, no padding': () => ort.fusion(images, tokens(8), realTokens),
      }),
      torch: (torch) => torch.fusion(tokens(8), paddedTokens),
    },
    textRow(32),
    textRow(1),
  ];
}

/** @returns rows of the table and what was absent */
export async function modelTable({ folder, seed, rounds, threads, log }) {
  const { model: path, onnx } = await prepareBaseModel(folder, seed);
  const models = {};
  for (const dtype of dtypes) models[dtype] = await Vlmo.load(path, { dtype, threads });
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
      rows.push(rowOf({ ...work, dtype, threads }, seconds[dtype], others));
    }
    for (const name of Object.keys(peers)) await contestants[name].release();
  }
  rows.push(...(await mixedRows({ models, seed, rounds, threads, log })));
  const shipped = await Vlmo.load(undefined, { threads });
  const oneText = { texts: [text().text] };
  const oneImage = { images: pictures(1, seed) };
  rows.push(await overheadRow('one text outside kernels, shipped model', shipped, oneText, { threads, log }));
  rows.push(await overheadRow('one text outside kernels, base', models.int8, oneText, { threads, log }));
  rows.push(await overheadRow('one image outside kernels, base', models.int8, oneImage, { threads, log }));
  await shipped.dispose();
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

/** What one call takes outside kernels: planning, binding, the way there and back. */
async function overheadRow(name, model, items, { threads, log }) {
  log(name);
  const seconds = [];
  for (let round = 0; round < overheadRounds; round++) {
    const { outsideMilliseconds } = await model.profile(items);
    seconds.push(outsideMilliseconds / 1000);
  }
  return rowOf({ name, dtype: model.dtype, threads, items: 1, unit: 'calls', flops: 0 }, seconds, {});
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
