import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import sharp from 'sharp';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { prepareImage } from '../../src/image/prepare.ts';
import { PictureSet } from '../../src/inference/pictures.ts';
import { packageRoot } from '../../src/runtime/addon.ts';
import { expectCode, testImage } from '../helpers.ts';

/** A small drawing that takes longer than anybody waits: each mask needs the one before it twice. */
const endless = Buffer.from(
  `<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90">${Array.from({ length: 26 }, (_, i) => {
    const part = `<g mask="url(#m${i - 1})"><path d="M0 0h90v90H0z" fill="#fff"/></g>`;
    return `<mask id="m${i}">${part}${part}</mask>`;
  }).join('')}<path d="M0 0h90v90H0z" mask="url(#m25)"/></svg>`,
);
/** Filter results of 100 MB each, all of them kept. */
const greedy = Buffer.from(
  `<svg xmlns="http://www.w3.org/2000/svg" width="5000" height="5000"><filter id="f" x="0" y="0" width="1" height="1">${Array.from(
    { length: 40 },
    (_, i) => `<feFlood flood-color="red" flood-opacity="0.${i + 10}" result="r${i}"/>`,
  ).join(
    '',
  )}<feMerge>${Array.from({ length: 40 }, (_, i) => `<feMergeNode in="r${i}"/>`).join('')}</feMerge></filter><rect width="5000" height="5000" filter="url(#f)"/></svg>`,
);
const picture = testImage(5, 16);
let good = Buffer.alloc(0);
beforeAll(async () => {
  good = await sharp(picture.data, { raw: picture }).png().toBuffer();
});
const goodPicture = async () => expect(Buffer.from(await prepareImage(good, 16))).toEqual(Buffer.from(picture.data));

/** Processes that this one started and that live. */
function children(): number {
  return readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const [state, parent] = readFileSync(`/proc/${name}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ');
      return Number(parent) === process.pid && state !== 'Z';
    } catch {
      return false;
    }
  }).length;
}

/** Runs a program with the built library. */
function run(program: string): { readonly status: number | null; readonly out: string; readonly ms: number } {
  const library = JSON.stringify(pathToFileURL(`${packageRoot()}/dist/index.mjs`).href);
  const started = performance.now();
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', `const { Vlmo } = await import(${library});\n${program}`],
    { encoding: 'utf8', timeout: 50_000 },
  );
  return { status, out: stdout + stderr, ms: performance.now() - started };
}

describe('decoders', () => {
  it('end a picture that takes too long, and decode others meanwhile', async () => {
    const failed = expectCode(() => prepareImage(endless, 16), 'MOME_TOO_LARGE');
    const first = Promise.race([failed.then(() => 'bad'), goodPicture().then(() => 'good')]);
    expect(await first).toBe('good');
    expect((await failed).message).toMatch(/decodes in 10 s/);
    await goodPicture();
  });

  it('end at once when the call is aborted, and go on for others', async () => {
    await goodPicture();
    const before = children();
    for (let i = 0; i < 3; i++) {
      const controller = new AbortController();
      const call = PictureSet.prepare([good, endless, endless, endless, endless, endless], 16, controller.signal);
      const failed = expectCode(() => call, 'MOME_ABORTED');
      await sleep(400);
      await goodPicture();
      const aborted = performance.now();
      controller.abort(new Error('enough'));
      expect((await failed).cause).toEqual(new Error('enough'));
      expect(performance.now() - aborted).toBeLessThan(200);
    }
    await sleep(300);
    expect(children()).toBeLessThanOrEqual(before + 3);
    await goodPicture();
  });

  it('are not all taken by the calls of one client', async () => {
    await goodPicture();
    const controller = new AbortController();
    const { signal } = controller;
    const slow = Array.from({ length: 24 }, () =>
      prepareImage(endless, 16, { signal, client: 'slow' }).catch((error) => error.code),
    );
    await sleep(1500); // by then they have all that they get
    const other = prepareImage(good, 16, { client: 'other' }).then(() => 'other');
    const own = prepareImage(good, 16, { client: 'slow' }).then(() => 'own');
    expect(await Promise.race([other, own, sleep(5000)])).toBe('other');
    controller.abort(new Error('enough'));
    expect(new Set(await Promise.all(slow))).toEqual(new Set(['MOME_ABORTED']));
    expect(await own).toBe('own');
  });

  it('stop what a call still decodes when one of its pictures fails', async () => {
    await goodPicture();
    const call = PictureSet.prepare([endless, new Uint8Array(0)], 16);
    const kill = vi.spyOn(process, 'kill');
    await expectCode(() => call, 'MOME_INVALID_IMAGE');
    await expect.poll(() => kill).toHaveBeenCalledWith(expect.any(Number), 'SIGKILL');
    kill.mockRestore();
    await goodPicture();
  });

  it('refuse a picture that needs more memory than they have', async () => {
    const error = await expectCode(() => prepareImage(greedy, 16), 'MOME_TOO_LARGE');
    expect(error.message).toMatch(/memory/);
    await goodPicture();
  });

  it('keep no process alive: a script ends, and process.exit is immediate, whatever they do', () => {
    const bytes = `Buffer.from('${endless.toString('base64')}', 'base64')`;
    const model = 'const model = await Vlmo.load();';
    const pixel = '{ data: new Uint8Array(3), width: 1, height: 1 }';
    const natural =
      run(`${model} await model.embedImages(['${packageRoot()}/ts/test/image/fixtures/cmyk.jpg', ${pixel}]);
      process.on('exit', () => console.log('ended'));`);
    expect(natural).toMatchObject({ status: 0, out: 'ended\n' });
    const forced = run(`${model} model.embedImages([${bytes}]).catch(() => {});
      setTimeout(() => process.exit(7), 500);`);
    expect(forced).toMatchObject({ status: 7, out: '' });
    expect(forced.ms).toBeLessThan(20_000);
  });
});
