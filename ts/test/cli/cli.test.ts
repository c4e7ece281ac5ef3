import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, statSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { golden, temporaryFolder, testImage, tinyModel } from '../helpers.ts';

let model = '';
let pictures = '';
beforeAll(async () => {
  model = await tinyModel();
  pictures = join(await temporaryFolder(), 'pictures');
  await mkdir(pictures);
  for (let i = 0; i < 4; i++) {
    const image = testImage(i, 32);
    await sharp(image.data, { raw: image })
      .png()
      .toFile(join(pictures, `${i}.png`));
  }
});

/** Runs the built command; `npm test` builds it first. */
function mome(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(process.cwd(), 'dist/cli.mjs'), ...args], {
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}
const json = (...args: string[]) => {
  const { status, stdout, stderr } = mome(...args, '--json');
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return JSON.parse(stdout);
};

/**
 * Runs the built command as if its standard error were a terminal, for 20 seconds at most.
 *
 * @param whenShown called once the progress bar is there
 * @param part text of the bar to wait for
 */
async function onTerminal(
  args: readonly string[],
  whenShown: (child: ChildProcess) => void = () => {},
  part = ' eta ',
) {
  const terminal = 'data:text/javascript,process.stderr.isTTY=true';
  const child = spawn(process.execPath, ['--import', terminal, join(process.cwd(), 'dist/cli.mjs'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 20_000,
  });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  let text = '';
  let shown = false;
  child.stderr.setEncoding('utf8').on('data', (more: string) => {
    text += more;
    if (shown || !text.includes(part)) return;
    shown = true;
    whenShown(child);
  });
  const [code] = await once(child, 'close');
  return { code, shown, stdout };
}

describe('mome', () => {
  it('keeps 8-bit rows on disk, and searches such an index as it is', () => {
    const index = join(pictures, '..', 'eight.index');
    expect(json('index', pictures, '-m', model, '--int8', '--index', index).indexed).toBe(4);
    const byFolder = json('search', pictures, 'a red square', '-m', model, '-k', '3');
    expect(json('search', index, 'a red square', '-m', model, '-k', '3').results).toEqual(byFolder.results);
    // It stays as it is when it is brought up to date, until it is asked to change.
    const size = () => statSync(index).size;
    const before = size();
    json('search', pictures, 'red', '-m', model, '--index', index);
    expect(size()).toBe(before);
    json('index', pictures, '-m', model, '--no-int8', '--index', index);
    expect(size()).not.toBe(before);
    expect(json('search', index, 'a red square', '-m', model, '-k', '3').results).toEqual(byFolder.results);
    for (const args of [[index], [index, 'red', '--index', index]])
      expect(mome('search', ...args, '-m', model).status).toBe(2);
    expect(mome('search', join(pictures, '2.png'), 'red', '-m', model).stderr).toContain('MOME_INVALID_FILE');
    rmSync(index);
  });

  it('searches a folder by text and by picture, and keeps the index', async () => {
    const first = json('search', pictures, 'a red square', '-m', model, '-k', '3');
    expect(first.results).toHaveLength(3);
    for (const { match } of first.results) expect(match).toBeGreaterThan(0);
    const page = join(pictures, '..', 'page.html');
    const like = json('search', pictures, '-i', join(pictures, '2.png'), '-m', model, '--html', page);
    // The picture asked with is none of the results, and nobody stands in its place.
    expect(like.results.map(({ path }: { path: string }) => path)).not.toContain(join(pictures, '2.png'));
    expect(like.results.map(({ dualRank }: { dualRank: number }) => dualRank)).toEqual([0, 1, 2]);
    expect(json('search', pictures, '-i', join(pictures, '2.png'), '-m', model, '-k', '2').results).toHaveLength(2);
    const html = await readFile(page, 'utf8');
    expect(html).toContain('data:image/webp');
    expect(html).toContain('href="./pictures/0.png"');
    expect(html).toContain('3 of 3 pictures');
    const words = json('search', pictures, 'a', 'red', 'square', '-m', model, '-k', '3');
    expect(words).toEqual(first);
    expect(json('search', pictures, '-m', model).indexed).toBe(4);
    expect(mome('search', pictures, 'red', '-m', model).stdout).toContain('.png');
    const unkept = mome('search', pictures, 'red', '-m', model, '--index', '/nowhere/index');
    expect(unkept.status).toBe(0);
    expect(unkept.stderr).toContain('not kept');
    // An index alone that cannot be kept is refused before a model is loaded.
    const refused = mome('index', pictures, '-m', '/no model', '--index', '/nowhere/index');
    expect([refused.status, refused.stderr]).toEqual([1, expect.stringMatching(/its folder is not there \(MOME_IO\)/)]);
  });

  it('embeds, matches, answers, reasons and fills masks', () => {
    const image = join(pictures, '0.png');
    const embedded = json('embed', '-m', model, '-t', 'red', 'blue', '-i', image);
    expect(embedded.rows.map(({ embedding }: { embedding: number[] }) => embedding.length)).toEqual([48, 48, 48]);
    expect(json('match', image, 'red', 'blue', '-m', model).results).toHaveLength(2);
    expect(json('answer', image, 'what colour?', '-m', model, '-k', '2').answers).toHaveLength(2);
    expect(json('reason', image, join(pictures, '1.png'), 'both are red', '-m', model).probability).toBeGreaterThan(0);
    expect(json('fill-mask', 'a [MASK] square', '-m', model).masks).toHaveLength(1);
  });

  it('inspects, converts and verifies', async () => {
    const checkpoint = join(golden('tiny_absolute'), 'weights.pt');
    expect(json('inspect', checkpoint)).toMatchObject({ format: 'pytorch', kind: 'vlmo', missing: [] });
    const shipped = mome('inspect', join(process.cwd(), 'models/emoji-tiny')).stdout;
    expect(shipped).toMatch(/^serves {6}search and embed, match and re-ranking/m);
    expect(shipped).toMatch(/^missing {5}none$/m);
    expect(mome('inspect', checkpoint, '--tensors').stdout).toContain('transformer.blocks.0.attn.qkv.weight');
    const target = join(await temporaryFolder(), 'converted');
    const converted = json('convert', checkpoint, target, '--dtype', 'bfloat16');
    expect([converted.missing, converted.serves]).toEqual([[], ['embed', 'match', 'answer', 'reason', 'fillMask']]);
    const report = json('verify', golden('resize_relative'), '--target', 'ref');
    expect(report).toMatchObject({
      passed: true,
      device: 'cpu',
      target: 'ref',
      dtype: 'float32',
      compared: 7,
      failed: 0,
    });
    expect(mome('verify', golden('preprocess')).stdout).toContain('passed');
    const { stdout } = mome('verify', golden('tiny_absolute'), '--dtype', 'int8');
    expect(stdout).toMatch(/skipped \d+ gradient tensors: compared in float32 on the processor alone/);
  });

  it('times a model', () => {
    const { rows, dtype } = json('bench', '-m', model, '--seconds', '0', '--dtype', 'int8');
    expect(dtype).toBe('int8');
    expect(rows).toHaveLength(5);
    for (const { milliseconds, perSecond, items } of rows) {
      expect(milliseconds.fastDecile).toBeGreaterThan(0);
      expect(perSecond).toBeCloseTo((1000 * items) / milliseconds.median, 6);
    }
    expect(mome('bench', '-m', model, '--seconds', 'many').status).toBe(2);
    const named = json('bench', '-m', model, '--seconds', '0', '--row', '1 text', '--row', '8 pairs');
    expect(named.partial).toBe(false);
    expect(named.rows.map(({ name }: { name: string }) => name)).toEqual(['1 text', '8 pairs']);
    const unknown = mome('bench', '-m', model, '--seconds', '0', '--row', '9 pictures');
    expect(unknown.status).toBe(2);
    expect(unknown.stderr).toMatch(/expected rows of "1 picture", "8 pictures", .*got "9 pictures"/);
  });

  it('prints what it timed before it was interrupted', async () => {
    const args = ['bench', '-m', model, '--seconds', '1', '--json'];
    const interrupted = await onTerminal(args, (child) => child.kill('SIGTERM'), ' 1/5 ');
    expect(interrupted).toMatchObject({ code: 130, shown: true });
    const { partial, rows } = JSON.parse(interrupted.stdout);
    expect(partial).toBe(true);
    expect(rows[0].name).toBe('1 picture');
    expect(rows.length).toBeLessThan(5);
  });

  it('ends on a terminal too when a call fails while the progress bar is shown', async () => {
    const broken = join(await temporaryFolder(), 'broken.png');
    await writeFile(broken, 'nothing');
    // So many that several runs succeed, and the bar is there, before the last fails.
    const images = Array.from({ length: 800 }, () => join(pictures, '0.png'));
    expect(await onTerminal(['embed', '-m', model, '-i', ...images, broken])).toMatchObject({ code: 3, shown: true });
  });

  it('ends on a terminal too when it is interrupted while the progress bar is shown', async () => {
    const args = ['bench', '-m', model, '--seconds', '600'];
    expect(await onTerminal(args, (child) => child.kill('SIGINT'))).toMatchObject({ code: 130, shown: true });
  });

  it('exports, and says which functions the model has', async () => {
    const folder = join(await temporaryFolder(), 'onnx');
    const { functions, leftOut, weights } = json('export', '--onnx', '-m', model, '-o', folder);
    expect(functions.map(({ file }: { file: string }) => file)).toEqual(['image.onnx', 'text.onnx', 'fusion.onnx']);
    expect([leftOut, weights]).toEqual([[], 'weights.data']);
    expect(mome('export', '--onnx', '-o', folder, '--only', 'text').stdout).toContain('text_embed float [batch, 192]');
    expect(mome('export', '-o', folder, '--only', 'text').status).toBe(0);
    expect(mome('export', '--onnx').status).toBe(2);
    expect(mome('export', '--onnx', '-o', folder, '--only', 'audio').status).toBe(2);
    expect(mome('export', '--onnx', '-o', join(folder, 'text.onnx', 'below')).status).toBe(1);
  });

  it('gives exit codes that scripts can use', () => {
    expect(mome('--version').status).toBe(0);
    expect(mome('--help').status).toBe(0);
    expect(mome('frobnicate').status).toBe(2);
    expect(mome('search').status).toBe(2);
    expect(mome('embed', '-m', model).status).toBe(2);
    const missing = mome('inspect', '/nowhere.pt', '--json');
    expect(missing.status).toBe(1);
    expect(JSON.parse(missing.stderr).error.code).toBe('MOME_NOT_FOUND');
    expect(mome('verify', pictures).status).toBe(1);
    expect(mome('verify', golden('preprocess'), '--device', 'cuda').status).toBe(1);
    expect(json('doctor').ok).toBe(true);
  });

  it("trains on pairs of one's own, which no emoji drawings judge", async () => {
    const folder = await temporaryFolder();
    const pairs = [0, 1, 2, 3].map((i) => ({ image: join(pictures, `${i}.png`), caption: `picture ${i}` }));
    await writeFile(join(folder, 'pairs.jsonl'), pairs.map((pair) => JSON.stringify(pair)).join('\n'));
    const recipe = {
      model: JSON.parse(await readFile(join(model, 'config.json'), 'utf8')),
      vocabulary: join(model, 'vocab.txt'),
      init: model,
      data: { pairs: 'pairs.jsonl' },
      batchSize: 2,
      phases: [{ objectives: ['itc'], steps: 2, learningRate: 1e-4 }],
    };
    delete recipe.model.modelType;
    await writeFile(join(folder, 'recipe.json'), JSON.stringify(recipe));
    expect(json('train', join(folder, 'recipe.json'), '-o', join(folder, 'run'), '--quiet').steps).toBe(2);
    expect(await readFile(join(folder, 'run', 'metrics.jsonl'), 'utf8')).not.toContain('evaluation');
  });

  it('prints a chain that it takes as a file, and refuses flags beside a file', async () => {
    const file = join(await temporaryFolder(), "a chain's.json");
    const stage = { recipe: 'pairs', data: { pairs: 'pairs.jsonl' } };
    const chain = {
      model: 'base',
      init: 'model',
      stages: [stage, { ...stage, name: 'again' }, { ...stage, dtype: 'bfloat16' }],
    };
    await writeFile(file, JSON.stringify(chain));
    const printed = mome('train', file, '--print').stdout;
    await writeFile(file, printed);
    expect(JSON.parse(printed).stages.map(({ name }: { name: string }) => name)).toEqual(['pairs', 'again', 'pairs']);
    expect(mome('train', file, '--print').stdout).toBe(printed);
    for (const flags of [
      ['--data', 'other'],
      ['--patch-tokenizer', 'file'],
      ['--tokens', '5'],
    ]) {
      const { status, stderr } = mome('train', file, '--print', ...flags);
      expect(status).toBe(2);
      expect(stderr).toContain(`expected no ${flags[0]}`);
    }
  });

  it('takes presets by their names alone', () => {
    const { status, stderr } = mome('convert', model, join(pictures, '..', 'out'), '--preset', 'toString');
    expect(status).not.toBe(0);
    expect(stderr).toContain('expected a preset');
  });
});
