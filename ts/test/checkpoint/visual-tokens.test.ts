/**
 * The mask token and the head over visual tokens: in the files of a model that has them, of one that lacks them, and of BEiT.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { configLimits, parseConfig, type VlmoConfig } from '../../src/architecture/config.ts';
import { parameterShapes } from '../../src/architecture/parameters.ts';
import {
  inferConfig,
  inspectCheckpoint,
  openCheckpoint,
  type TensorToWrite,
  takeParameters,
  valuesOf,
  writeModel,
  writeSafetensors,
} from '../../src/checkpoint/index.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import { createRandom } from '../../src/train/random.ts';
import { startingParameters } from '../../src/train/starting-model.ts';
import { expectCode, temporaryFolder } from '../helpers.ts';
import { tinyConfig } from '../train/tiny-model.ts';

const own = ['transformer.mask_token', 'mim_score.fc.weight', 'mim_score.fc.bias'];
const withTokens: VlmoConfig = { ...tinyConfig, visualTokens: 9 };

async function written(config: VlmoConfig): Promise<{ folder: string; parameters: Map<string, Float32Array> }> {
  const folder = await temporaryFolder();
  const parameters = await initialParameters(config, createRandom(3));
  await writeModel(folder, config, parameters, { dtype: 'float32', vocabularyFiles: [] });
  return { folder, parameters };
}

describe('visual tokens of a configuration', () => {
  it('give a model its mask token and its head', () => {
    const [without, has] = [parameterShapes(tinyConfig), parameterShapes(withTokens)];
    expect([...has.keys()].filter((name) => !without.has(name)).sort()).toEqual([...own].sort());
    expect(own.map((name) => has.get(name))).toEqual([[1, 1, 32], [9, 32], [9]]);
  });

  it('are a whole number from 2 to a limit', async () => {
    expect(parseConfig(withTokens).visualTokens).toBe(9);
    expect('visualTokens' in parseConfig(tinyConfig)).toBe(false);
    for (const visualTokens of [1, 0, -1, 2.5, '9', null, configLimits.visualTokens + 1])
      await expectCode(() => parseConfig({ ...tinyConfig, visualTokens }), 'MOME_INVALID_CONFIG');
  });
});

describe('a checkpoint', () => {
  it('keeps them, and says so in config.json', async () => {
    const { folder, parameters } = await written(withTokens);
    expect(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')).visualTokens).toBe(9);
    const report = await inspectCheckpoint(folder);
    expect([report.config?.visualTokens, report.missing, report.unexpected]).toEqual([9, [], []]);
    const checkpoint = await openCheckpoint(join(folder, 'model.safetensors'));
    expect(inferConfig(checkpoint, { heads: tinyConfig.heads }).visualTokens).toBe(9);
    const read = await startingParameters(withTokens, checkpoint, 8);
    for (const name of own) expect(read.get(name), name).toEqual(parameters.get(name));
    checkpoint.file.close();
  });

  it('without them loads into a configuration with them, with fresh values', async () => {
    const { folder, parameters } = await written(tinyConfig);
    const checkpoint = await openCheckpoint(join(folder, 'model.safetensors'));
    expect([...(await takeParameters(checkpoint, withTokens)).missing].sort()).toEqual([...own].sort());
    const read = await startingParameters(withTokens, checkpoint, 8);
    expect(read.get('transformer.cls_token')).toEqual(parameters.get('transformer.cls_token'));
    expect(Math.max(...read.get('transformer.mask_token')!)).toBeGreaterThan(0);
    expect(Math.max(...read.get('mim_score.fc.weight')!)).toBeGreaterThan(0);
    expect(read.get('mim_score.fc.bias')).toEqual(new Float32Array(9));
    checkpoint.file.close();
    await using model = await Vlmo.load(folder, { threads: 1, config: withTokens });
    expect(model.config.visualTokens).toBe(9);
  });

  it('with them loads into a configuration without them', async () => {
    const { folder } = await written(withTokens);
    const checkpoint = await openCheckpoint(join(folder, 'model.safetensors'));
    const taken = await takeParameters(checkpoint, tinyConfig);
    expect(taken.missing).toEqual([]);
    expect(own.some((name) => taken.sources.has(name))).toBe(false);
    checkpoint.file.close();
    const picture = { data: new Uint8Array(768).fill(99), width: 16, height: 16, channels: 3 as const };
    await using bare = await Vlmo.load(folder, { threads: 1, config: tinyConfig });
    await using full = await Vlmo.load(folder, { threads: 1 });
    expect(await full.embedImages([picture])).toEqual(await bare.embedImages([picture]));
  });

  it('of another number of them is refused', async () => {
    const { folder } = await written(withTokens);
    const checkpoint = await openCheckpoint(join(folder, 'model.safetensors'));
    await expectCode(() => takeParameters(checkpoint, { ...tinyConfig, visualTokens: 10 }), 'MOME_INVALID_SHAPE');
    checkpoint.file.close();
  });
});

describe('a BEiT', () => {
  const config: VlmoConfig = { ...withTokens, firstVlLayer: tinyConfig.layers };
  /** BEiT's names of a model's picture part. */
  const beitName = (name: string) =>
    name
      .replace(/^transformer\./, '')
      .replace('mlp_imag', 'mlp')
      .replace('norm2_imag', 'norm2')
      .replace('mim_score.fc', 'lm_head');

  async function beit() {
    const parameters = await initialParameters(config, createRandom(4));
    const shapes = parameterShapes(config);
    const names = [...shapes.keys()].filter((name) => /^transformer\.|^mim_score/.test(name) && !/_text/.test(name));
    const tensors: TensorToWrite[] = names.map((name) => ({
      name: beitName(name),
      dtype: 'F32',
      shape: shapes.get(name)!,
      data: parameters.get(name)!,
    }));
    const path = join(await temporaryFolder(), 'beit.safetensors');
    await writeSafetensors(path, tensors);
    return { checkpoint: await openCheckpoint(path), parameters, names };
  }

  it('gives its mask token, its head and its final norm', async () => {
    const { checkpoint, parameters, names } = await beit();
    const { sources, unexpected } = await takeParameters(checkpoint, config);
    expect(names).toEqual(expect.arrayContaining([...own, 'transformer.norm.weight']));
    for (const name of names) expect(await valuesOf(sources.get(name)!), name).toEqual(parameters.get(name));
    expect(unexpected).toEqual([]);
    checkpoint.file.close();
  });

  it('gives no head over another number of tokens, and neither to a model without them', async () => {
    const { checkpoint } = await beit();
    const other = await takeParameters(checkpoint, { ...config, visualTokens: 10 });
    expect(own.map((name) => other.sources.has(name))).toEqual([true, false, false]);
    const { visualTokens: _, ...none } = config;
    const bare = await takeParameters(checkpoint, none);
    expect(own.map((name) => bare.sources.has(name))).toEqual([false, false, false]);
    expect(bare.unexpected).toEqual([]);
    checkpoint.file.close();
  });
});
