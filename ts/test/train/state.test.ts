import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { VlmoConfig } from '../../src/architecture/config.ts';
import { openSafetensors, writeSafetensors } from '../../src/checkpoint/index.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import { createRandom } from '../../src/train/random.ts';
import { loadRun, saveRun } from '../../src/train/state.ts';
import { Trainer } from '../../src/train/trainer.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';

const config: VlmoConfig = {
  imageSize: 8,
  patchSize: 8,
  width: 16,
  layers: 2,
  heads: 2,
  hiddenRatio: 2,
  firstVlLayer: 1,
  positions: 'absolute',
  layerScale: null,
  maxTextLength: 4,
  maxTextLengthOfInit: 4,
  vocabularySize: 10,
  answers: 1,
};
const trainer = async (seed: number) =>
  Trainer.create(
    config,
    await initialParameters(config, createRandom(seed)),
    { vocabularySize: 10, maskId: 4, isSpecial: (id) => id < 5, isContinuation: () => false },
    { objectives: ['itc'], schedule: { learningRate: 1e-3, totalSteps: 1, warmupSteps: 0, decay: 'constant' }, seed },
    { threads: 1 },
  );

describe('loadRun', () => {
  it('reads tensors that lie beyond 2 and 4 GiB', async () => {
    const folder = await temporaryFolder();
    const saved = await trainer(1);
    await saveRun(join(folder, 'near'), saved, { epoch: 2, step: 1 });
    // The same file with a hole between header and tensors, as a model of that size would have tensors there.
    const near = await readFile(join(folder, 'near'));
    const start = 8 + Number(near.readBigUInt64LE());
    const gap = 5 * 2 ** 30;
    const header = JSON.parse(near.toString('utf8', 8, start));
    for (const [name, { data_offsets: offsets }] of Object.entries<{ data_offsets: number[] }>(header))
      if (name !== '__metadata__') header[name].data_offsets = offsets.map((offset) => offset + gap);
    const text = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    const far = await open(join(folder, 'far'), 'w');
    await far.write(Buffer.concat([prefix, text]), 0, 8 + text.length, 0);
    await far.write(near, start, near.length - start, 8 + text.length + gap);
    await far.close();
    const loaded = await trainer(2);
    expect(await loadRun(join(folder, 'far'), loaded)).toEqual({ epoch: 2, step: 1 });
    expect(await loaded.parameters()).toEqual(await saved.parameters());
    expect(loaded.state).toEqual(saved.state);
    for (const one of [saved, loaded]) one.dispose();
  });

  const good = { version: 2, trainer: { step: 0, random: [1, 2, 3, 4] }, position: { epoch: 0, step: 0 } };
  it.each<[string, unknown]>([
    ['no state', undefined],
    ['text that is no JSON', '{'],
    ['no object', null],
    ['another version', { ...good, version: 1 }],
    ['no trainer', { ...good, trainer: undefined }],
    ['a fractional step', { ...good, trainer: { ...good.trainer, step: 0.5 } }],
    ['random words out of range', { ...good, trainer: { ...good.trainer, random: [1, 2, 3, 2 ** 32] } }],
    ['random words of zero alone', { ...good, trainer: { ...good.trainer, random: [0, 0, 0, 0] } }],
    ['no position', { ...good, position: null }],
    ['a negative epoch', { ...good, position: { epoch: -1, step: 0 } }],
    ['no tensors', good],
  ])('refuses a file with %s', async (_, state) => {
    const path = join(await temporaryFolder(), 'checkpoint');
    const text = typeof state === 'string' ? state : JSON.stringify(state);
    await writeSafetensors(path, [], text === undefined ? {} : { state: text });
    expect((await openSafetensors(path)).entries.size).toBe(0);
    const one = await trainer(1);
    const { message } = await expectCode(() => loadRun(path, one), 'MOME_INVALID_FILE');
    expect(message).toContain(path);
    one.dispose();
  });
});
