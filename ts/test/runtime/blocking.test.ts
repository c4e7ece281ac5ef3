/** How work is cut is measured and may be changed; results stay the same to the last bit. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Vlmo } from '../../src/inference/index.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import { addon, dtypes, packageRoot } from '../../src/runtime/addon.ts';
import { diagnose } from '../../src/runtime/doctor.ts';
import { createRandom } from '../../src/train/random.ts';
import { Trainer } from '../../src/train/trainer.ts';
import { testImage } from '../helpers.ts';
import { tinyConfig } from '../train/tiny-model.ts';

const usual = Object.entries(addon().blocking().fields)
  .map(([name, value]) => `${name}=${value}`)
  .join(',');
const others = [
  'depth_steps=16,block_tiles=1,item_panels=1,items_per_thread=1,row_block=64,group_bytes=1024,run_bytes=65536',
  'depth_steps=4096,block_tiles=99,item_panels=99,items_per_thread=9,row_block=4096,run_bytes=99999999',
];
const targets = addon()
  .cpuInfo()
  .targets.filter((target) => target !== 'ref');

afterEach(() => addon().setBlocking(usual));

describe('how work is cut', () => {
  it.each(targets)('does not change a bit of embeddings and matches on %s', async (target) => {
    const texts = Array.from({ length: 40 }, (_, i) => 'a red face and a cat '.repeat(1 + (i % 3)));
    const images = Array.from({ length: 12 }, (_, i) => testImage(i));
    const pairs = images.map((image, i) => ({ image, text: texts[i]! }));
    for (const dtype of dtypes) {
      await using model = await Vlmo.load(undefined, { target, dtype, device: 'cpu' });
      const expected = await model.mixed({ images, texts, pairs });
      for (const other of others) {
        addon().setBlocking(other);
        expect(await model.mixed({ images, texts, pairs })).toEqual(expected);
      }
      addon().setBlocking(usual);
    }
  });

  it('does not change a bit of what is learnt', async () => {
    const config = { ...tinyConfig, width: 96, heads: 3 };
    const trained = async (numbers: string) => {
      addon().setBlocking(numbers);
      const trainer = await Trainer.create(
        config,
        await initialParameters(config, createRandom(5)),
        { vocabularySize: 40, maskId: 4, isSpecial: (id) => id < 5, isContinuation: () => false },
        {
          objectives: ['itc', 'itm', 'mlm'],
          schedule: { learningRate: 2e-3, totalSteps: 9, warmupSteps: 1, decay: 'constant' },
          seed: 3,
        },
      );
      const bytes = Uint8Array.from({ length: 8 * 768 }, (_, at) => (at * 7) & 255);
      const batch = { bytes, texts: Array.from({ length: 8 }, (_, i) => Int32Array.of(2, 10 + i, 20 + (i % 2), 3)) };
      for (let step = 0; step < 2; step++) await trainer.train(batch);
      const parameters = await trainer.parameters();
      trainer.dispose();
      return parameters;
    };
    const expected = await trained(usual);
    for (const other of others) expect(await trained(other)).toEqual(expected);
  });

  it('is refused in words where it cannot be read', () => {
    expect(() => addon().setBlocking('depth=1')).toThrow('expected fields such as depth_steps=768, got "depth=1"');
    const { status, stderr } = spawnSync(
      process.execPath,
      [join(packageRoot(), 'dist', 'cli.mjs'), 'embed', '--text', 'a'],
      { encoding: 'utf8', env: { ...process.env, MOME_BLOCKING: 'depth_steps=1' } },
    );
    expect(stderr).toBe(
      'mome: MOME_BLOCKING: expected depth_steps from 16 to 65536, got "1" (MOME_INVALID_ARGUMENT)\n',
    );
    expect(status).toBe(2);
  });

  it('is shown by the doctor with where it is from', async () => {
    const { checks } = await diagnose();
    const { source, fields } = addon().blocking();
    const detail = checks.find(({ name }) => name === 'blocking')?.detail;
    expect(detail).toContain(source);
    expect(detail).toContain(`depth_steps ${fields.depth_steps}`);
  });
});
