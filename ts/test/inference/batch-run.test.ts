/** Runs of a queue as a device does them, with sizes rounded up: each item has its own result, whatever shares the run. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { doRun, headsOf, type RunItem } from '../../src/inference/batch-run.ts';
import { loadModel, type ModelParts } from '../../src/inference/load.ts';
import { PictureSet } from '../../src/inference/pictures.ts';
import { Runs } from '../../src/inference/runs.ts';
import { Program } from '../../src/runtime/engine.ts';
import { testImage, tinyModel } from '../helpers.ts';

let parts: ModelParts;
let exact: Runs;
let inBuckets: Runs;
const pictures: { readonly bytes: Uint8Array }[] = [];
const { signal } = new AbortController();

beforeAll(async () => {
  parts = await loadModel(await tinyModel(), {});
  exact = new Runs(parts);
  // The engine is that of the processor, with the name of a device: sizes are rounded up. A processor wants every row to belong to an
  // expert, so that here the rows of nobody do.
  const { run } = Program.prototype;
  vi.spyOn(Program.prototype, 'run').mockImplementation(function (this: Program, args, stop) {
    const { rows, kept } = args.dims as { readonly rows: number; readonly kept: number };
    return run.call(this, { ...args, dims: { ...args.dims, text_begin: 0, image_end: rows, kept_end: kept } }, stop);
  });
  inBuckets = new Runs({ ...parts, engine: Object.defineProperty(parts.engine, 'deviceName', { value: 'cuda:0' }) });
  for (let seed = 0; seed < 4; seed++) {
    const { bytes } = await PictureSet.prepare([testImage(seed, 20)], parts.config.imageSize);
    pictures.push({ bytes });
  }
}, 60_000);
afterAll(() => {
  exact.dispose();
  inBuckets.dispose();
  parts.weights.dispose();
  parts.engine.dispose();
});

const item = (head: RunItem['head'], word: number | undefined, shown: readonly number[], masks = 0): RunItem => ({
  head,
  ids: word === undefined ? undefined : Int32Array.of(2, word, ...Array(masks).fill(4), word + 1, 3),
  pictures: shown.map((picture) => pictures[picture]!),
  positions: Array.from({ length: masks }, (_, i) => 2 + i),
});
/** Three items of each kind, no two alike. */
const kinds = (): readonly (readonly RunItem[])[] => [
  [5, 6, 7].map((word) => item('embed', word, [])),
  [0, 1, 2].map((picture) => item('embed', undefined, [picture])),
  [8, 9, 10].map((word, i) => item('match', word, [i])),
  [11, 12, 13].map((word, i) => item('answer', word, [i + 1])),
  [14, 15, 16].map((word, i) => item('reason', word, [i, 3 - i])),
  [5, 8, 11].map((word, i) => item('fillMask', word, [], i + 1)),
  [6, 9, 12].map((word, i) => item('fillMask', word, [i], i + 1)),
];

it('give the items of every mixture of kinds what each has alone', async () => {
  const all = kinds();
  const alone = new Map<RunItem, Float32Array>();
  for (const each of all.flat()) alone.set(each, (await doRun(exact, [each], signal))[0]!);
  for (let mixture = 1; mixture < 2 ** all.length; mixture++) {
    const items = [0, 1, 2].flatMap((i) => all.filter((_, kind) => mixture & (1 << kind)).map((kind) => kind[i]!));
    const results = await doRun(inBuckets, items, signal);
    for (const [i, each] of items.entries())
      expect(results[i], `item ${i}, a ${each.head}, of ${headsOf(items)}`).toEqual(alone.get(each));
  }
});
