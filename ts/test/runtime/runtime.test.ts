import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { addon, native } from '../../src/runtime/addon.ts';
import { diagnose } from '../../src/runtime/doctor.ts';
import { Engine } from '../../src/runtime/engine.ts';
import { errorCodes, nativeErrorCodes } from '../../src/runtime/errors.ts';
import { topK } from '../../src/runtime/top-k.ts';
import { expectCode } from '../helpers.ts';

describe('error codes', () => {
  it('are the same list in C++ and TypeScript', () => expect(addon().errorCodes()).toEqual([...nativeErrorCodes]));
  it('are documented, each and no others', async () => {
    const page = await readFile(join(process.cwd(), 'docs/errors.md'), 'utf8');
    expect([...page.matchAll(/^\| `(MOME_\w+)`/gm)].map((match) => match[1])).toEqual([...errorCodes]);
  });
});

describe('diagnose', () => {
  it('finds every kernel set running', async () => {
    const report = await diagnose();
    expect(report.ok).toBe(true);
    expect(report.checks.filter(({ name }) => name.startsWith('target')).length).toBe(report.cpu?.targets.length);
  });
});

const header = 'mome-program 1\ndims n\ninput x f32 n\nbuffer 0 f32 n live 0 0\noutput y 0\n';
const op = 'op add.forward a=$x b=$x y=%0 count=n\n';

describe('programs', () => {
  it.each([
    ['nothing', ''],
    ['another version', 'mome-program 99\n'],
    ['an unknown op', `${header}op explode.forward a=$x\n`],
    ['an unknown line', `${header}${op}frobnicate\n`],
    ['an unknown buffer', `${header}op add.forward a=$x b=$x y=%7 count=n\n`],
    ['an unknown input', `${header}op add.forward a=$z b=$x y=%0 count=n\n`],
    ['a buffer twice', `${header}buffer 0 f32 n live 0 0\n${op}`],
    ['a negative size', header.replace('f32 n live', 'f32 -4 live') + op],
    ['an unknown dimension', header.replace('f32 n live', 'f32 m live') + op],
    ['an output of nothing', header.replace('output y 0', 'output y 3') + op],
    ['an alias of itself', `${header}buffer 1 f32 n alias 1\n${op}`],
    ['a parameter that is missing', `${header}param w n\n${op}`],
  ])('that hold %s are refused', async (_, text) => {
    const engine = new Engine();
    const weights = engine.createWeights();
    const failure = await Promise.resolve()
      .then(() => engine.createProgram(weights, text))
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: expect.stringMatching(/^MOME_/) });
    engine.dispose();
  });

  it('refuse sizes, types and counts that do not fit', async () => {
    const engine = new Engine();
    const program = engine.createProgram(engine.createWeights(), header + op);
    const x = new Float32Array(3);
    await expectCode(() => program.run({ dims: { n: 4 }, inputs: { x } }), 'MOME_INVALID_SHAPE');
    await expectCode(() => program.run({ dims: { n: -1 }, inputs: { x } }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => program.run({ dims: { n: 0.5 }, inputs: { x } }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => program.run({ dims: {}, inputs: { x } }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => program.run({ dims: { n: 3 }, inputs: {} }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => program.run({ dims: { n: 3 }, inputs: { x: new Int32Array(3) } }), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => program.run({ dims: { n: 2 ** 39 }, inputs: { x } }), 'MOME_INVALID_SHAPE');
    expect((await program.run({ dims: { n: 3 }, inputs: { x } })).y).toEqual(x);
    expect((await program.run({ dims: { n: 0 }, inputs: { x: new Float32Array(0) } })).y).toHaveLength(0);
    engine.dispose();
    engine.dispose();
    await expectCode(() => program.run({ dims: { n: 3 }, inputs: { x } }), 'MOME_DISPOSED');
    await expectCode(() => engine.createWeights(), 'MOME_DISPOSED');
  });

  it('check indices before a kernel sees them', async () => {
    const engine = new Engine();
    const text =
      'mome-program 1\ndims n m\ninput x f32 n*4\ninput i i32 m\nbuffer 0 f32 m*4 live 0 0\noutput y 0\n' +
      'op gather_rows.forward x=$x index=$i y=%0\n';
    const program = engine.createProgram(engine.createWeights(), text);
    const run = (...index: number[]) =>
      program.run({ dims: { n: 2, m: index.length }, inputs: { x: new Float32Array(8), i: Int32Array.from(index) } });
    expect((await run(0, 1, 1)).y).toHaveLength(12);
    await expectCode(() => run(2), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => run(-1), 'MOME_INVALID_ARGUMENT');
    engine.dispose();
  });
});

describe('topK', () => {
  const rows = Float32Array.of(1, 0, 0, 1, 1, 1, Number.NaN, 0);
  it('orders by score, then index, NaN last', async () => {
    const { indices } = await native((a) => a.topK(rows, 2, Float32Array.of(1, 0), 9));
    expect([...indices]).toEqual([0, 2, 1, 3]);
  });
  it('refuses what does not fit', async () => {
    await expectCode(() => native((a) => a.topK(rows, 3, Float32Array.of(1, 0, 0), 1)), 'MOME_INVALID_SHAPE');
    await expectCode(() => native((a) => a.topK(rows, 2, Float32Array.of(1), 1)), 'MOME_INVALID_SHAPE');
    await expectCode(
      () => native((a) => a.topK(rows, 2, [1, 0] as unknown as Float32Array, 1)),
      'MOME_INVALID_ARGUMENT',
    );
  });
  it('copies the query, and ends within the time of a few rows when it is aborted', async () => {
    const many = new Float32Array(2 ** 26).fill(1);
    const query = new Float32Array(64).fill(1);
    const searching = topK(many, 64, query, 2);
    structuredClone(query.buffer, { transfer: [query.buffer] });
    expect([...(await searching).scores]).toEqual([64, 64]);
    const controller = new AbortController();
    const searches = Array.from({ length: 40 }, () =>
      topK(many, 64, new Float32Array(64), 2 ** 20, controller.signal).catch((error: unknown) => error),
    );
    await setTimeout(20);
    const aborted = performance.now();
    controller.abort(new Error('enough'));
    for (const error of await Promise.all(searches)) expect(error).toMatchObject({ code: 'MOME_ABORTED' });
    expect(performance.now() - aborted).toBeLessThan(200);
    // The threads are free again: they have not gone on behind the promises.
    await topK(Float32Array.of(1), 1, Float32Array.of(1), 1);
    expect(performance.now() - aborted).toBeLessThan(2000);
    await expectCode(() => topK(many, 64, new Float32Array(64), 1, AbortSignal.abort()), 'MOME_ABORTED');
  });
  it.runIf(process.platform === 'linux')('takes a few threads for many searches', async () => {
    const many = new Float32Array(2 ** 20);
    const search = () => native((a) => a.topK(many, 64, new Float32Array(64), 1));
    await search();
    const threads = async () => (await readdir('/proc/self/task')).length;
    const before = await threads();
    const searches = Array.from({ length: 64 }, search);
    expect((await threads()) - before).toBeLessThanOrEqual(4);
    for (const { indices } of await Promise.all(searches)) expect([...indices]).toEqual([0]);
  });
  it('ends with the environment that owns the rows', async () => {
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const addon = require('node-gyp-build')(workerData);
       const rows = new Float32Array(2 ** 24);
       for (let i = 0; i < 50; i++) addon.topK(rows, 64, new Float32Array(64), 1);
       parentPort.postMessage('searching');`,
      { eval: true, workerData: process.cwd() },
    );
    await new Promise((resolve) => worker.once('message', resolve));
    await worker.terminate();
    const { indices } = await native((a) => a.topK(rows, 2, Float32Array.of(1, 0), 1));
    expect([...indices]).toEqual([0]);
  });
});

describe('worker threads', () => {
  it('load the addon of their own and may end in mid-flight', async () => {
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      const addon = require('node-gyp-build')(workerData.root);
      const engine = new addon.NativeEngine(1, 'ref');
      const program = new addon.NativeProgram(new addon.NativeWeights(engine), workerData.text);
      const x = new Float32Array(200000).fill(2);
      const run = () => program.run(Float64Array.of(x.length), new Float64Array(0), [x], false);
      run().then(({ outputs }) => { parentPort.postMessage(outputs.y[0]); for (let i = 0; i < 50; i++) run().catch(() => {}); });`;
    const root = process.cwd();
    for (let round = 0; round < 3; round++) {
      const workers = [0, 1].map(() => new Worker(code, { eval: true, workerData: { root, text: header + op } }));
      const answers = await Promise.all(
        workers.map(
          (worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)),
        ),
      );
      expect(answers).toEqual([4, 4]);
      await Promise.all(workers.map((worker) => worker.terminate()));
    }
  });
});
