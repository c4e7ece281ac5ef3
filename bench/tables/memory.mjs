/** Peak resident memory of inference, each type of weights in a process of its own. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Vlmo } from '../../dist/index.mjs';
import { pictures, prepareBaseModel, text } from '../base-model.mjs';

/** What inference may need beside packed weights, arena and what the process held before it loaded the model. */
const allowance = 60e6;
const dtypes = ['float32', 'bfloat16', 'int8'];

/** @returns rows of the table */
export async function memoryTable({ folder, seed, log }) {
  const { model } = await prepareBaseModel(folder, seed);
  const rows = dtypes.map((dtype) => {
    log(`memory, ${dtype}`);
    const output = execFileSync(process.execPath, [fileURLToPath(import.meta.url), model, dtype, String(seed)], {
      encoding: 'utf8',
    });
    const bytes = JSON.parse(output);
    const limit = bytes.baseline + bytes.weights + bytes.arena + allowance;
    return { name: 'images, texts and pairs', dtype, bytes: { ...bytes, limit }, within: bytes.peak <= limit };
  });
  return { rows, absent: [], versions: {} };
}

/** Peak resident memory of this process so far, in bytes. */
function peakResident() {
  return 1024 * Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
}

async function measure(path, dtype, seed) {
  const [image] = pictures(1, seed);
  const { text: words } = text();
  const baseline = peakResident();
  const model = await Vlmo.load(path, { dtype });
  for (let i = 0; i < 3; i++) {
    await model.embedImages([image]);
    await model.embedTexts([words]);
    await model.match([{ image, text: words }]);
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
