/** Peak resident memory of inference, each type of weights in a process of its own. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Vlmo } from '../../dist/index.mjs';
import { pictures, prepareBaseModel, text } from '../base-model.mjs';
import { benchLines } from '../program.mjs';
import { memoryRow } from './row.mjs';

const bytesOf = { float32: 4, bfloat16: 2, int8: 1 };
/** Parameters that pictures, texts and pairs do not read. */
const unread = /^(mlm_score|nlvr2_classifier|vqa_classifier|itc_vl_|text_embeddings.position_embeddings)/;
/** Matrices that products read; the rest stays in float32. */
const multiplied = /^(transformer.blocks.*|transformer.patch_embed.proj|pooler.dense|itc_.*|itm_score.fc)\.weight$/;
const dtypes = ['float32', 'bfloat16', 'int8'];

const rowName = '8 images, 32 texts and 8 pairs';

export const memoryTable = {
  names: () => [rowName],
  measure: async (run) => {
    if (!run.wants(rowName)) return;
    const { model } = await prepareBaseModel(run.folder, run.seed);
    const rows = [];
    for (const dtype of dtypes) {
      run.log(`memory, ${dtype}`);
      const args = [fileURLToPath(import.meta.url), model, dtype, String(run.seed)];
      const [line] = await benchLines(args, { signal: run.signal, program: process.execPath });
      rows.push(memoryRow(rowName, dtype, { ...line, parameters: parameterBytes(model, dtype) }));
    }
    run.add(...rows);
  },
};

/** Bytes of the parameters that are read, matrices in `dtype`, from the header of the model's file. */
function parameterBytes(folder, dtype) {
  const file = openSync(join(folder, 'model.safetensors'), 'r');
  const length = Buffer.alloc(8);
  readSync(file, length, 0, 8, 0);
  const header = Buffer.alloc(Number(length.readBigUInt64LE()));
  readSync(file, header, 0, header.length, 8);
  closeSync(file);
  let bytes = 0;
  for (const [name, tensor] of Object.entries(JSON.parse(header.toString()))) {
    if (name === '__metadata__' || unread.test(name)) continue;
    const matrix = tensor.shape.length > 1 && multiplied.test(name);
    bytes += tensor.shape.reduce((a, b) => a * b, 1) * (matrix ? bytesOf[dtype] : 4);
  }
  return bytes;
}

/** Peak resident memory of this process so far, in bytes. */
function peakResident() {
  return 1024 * Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
}

async function measure(path, dtype, seed) {
  const images = pictures(8, seed);
  const { text: words } = text();
  const baseline = peakResident();
  const model = await Vlmo.load(path, { dtype });
  for (let i = 0; i < 3; i++) {
    await model.embedImages(images);
    await model.embedTexts(Array(32).fill(words));
    await model.match(images.map((image) => ({ image, text: words })));
  }
  const { weightBytes, arenaBytes } = model.memory();
  const result = { baseline, peak: peakResident(), weights: weightBytes, arena: arenaBytes };
  await model.dispose();
  return result;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , path, dtype, seed] = process.argv;
  process.stdout.write(`${JSON.stringify(await measure(path, dtype, Number(seed)))}\n`);
}
