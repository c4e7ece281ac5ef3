/** `abilities` against what the calls themselves do, for files that lack one head after the other. */
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { convertCheckpoint } from '../../src/checkpoint/index.ts';
import { type Ability, abilities } from '../../src/inference/abilities.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { temporaryFolder, testImage, tinyModel } from '../helpers.ts';

const image = testImage(1);
const calls: Readonly<Record<Ability, (model: Vlmo) => Promise<unknown>>> = {
  embed: (model) => Promise.all([model.embedTexts(['red']), model.embedImages([image])]),
  match: (model) => model.match([{ image, text: 'red' }]),
  answer: (model) => model.answer(image, 'red?'),
  reason: (model) => model.reason([image, image], 'both are red'),
  fillMask: (model) => model.fillMask(null, 'a [MASK] circle'),
};

/** The calls that a model does not refuse. */
async function found(model: Vlmo): Promise<Set<Ability>> {
  const works = new Set<Ability>();
  for (const ability of abilities)
    try {
      await calls[ability](model);
      works.add(ability);
    } catch (error) {
      if (!(error instanceof MomeError) || error.code !== 'MOME_UNSUPPORTED') throw error;
    }
  return works;
}

describe('abilities', () => {
  it('are those calls that work', async () => {
    const whole = await tinyModel();
    await using complete = await Vlmo.load(whole);
    expect(complete.abilities).toEqual(new Set(abilities));
    expect(await found(complete)).toEqual(complete.abilities);
    const seen = new Set<string>();
    for (const head of [/^pooler/, /^itm_score/, /^itc_image/, /^vqa/, /^nlvr2/, /^mlm_score\.bias/]) {
      const folder = await temporaryFolder();
      await convertCheckpoint(whole, folder, { omit: (name) => head.test(name) });
      await copyFile(join(whole, 'vocab.txt'), join(folder, 'vocab.txt'));
      await using model = await Vlmo.load(folder);
      expect(await found(model), String(head)).toEqual(model.abilities);
      seen.add([...model.abilities].join());
    }
    expect(seen.size).toBe(6); // each file lacks something else
  });

  it('of a file without the third token type have no statements', async () => {
    await using shipped = await Vlmo.load();
    expect(shipped.abilities).toEqual(await found(shipped));
    expect([shipped.abilities.has('match'), shipped.abilities.has('reason')]).toEqual([true, false]);
  });
});
