import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { configFromArch, presets } from '../../src/architecture/config.ts';
import { parameterShapes } from '../../src/architecture/parameters.ts';
import { layoutBatch } from '../../src/model/batch.ts';
import { dualOutputs, embed, fusionOutputs, lowerFunction, match } from '../../src/model/functions.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import { contrastiveFunction } from '../../src/model/objectives.ts';
import { addon } from '../../src/runtime/addon.ts';
import { Engine } from '../../src/runtime/engine.ts';
import { createRandom } from '../../src/train/random.ts';
import { readCaseConfig } from '../../src/verify/case-files.ts';
import { ModelCase } from '../../src/verify/model-case.ts';
import { golden } from '../helpers.ts';

describe.each(addon().cpuInfo().targets)('the last block on %s', (target) => {
  it.each(['tiny_relative', 'tiny_absolute'])('gives CLS rows of %s the bits of the whole block', async (name) => {
    const config = configFromArch((await readCaseConfig(golden(name))).arch);
    const model = await ModelCase.open(golden(name), join(golden(name), 'weights.pt'), config, { target });
    try {
      const { texts } = model;
      const images = texts.map((_, picture) => ({ picture }));
      const pairs = texts.map((text, picture) => ({ text, picture }));
      // Not only sequences of one kind: places among the kept rows must be right too.
      const unimodal = model.layout({ texts: texts.slice(1), images });
      const kept = await model.run(embed, unimodal, {});
      const all = await model.run(dualOutputs, unimodal, {
        inputs: { text_cls: unimodal.textCls, image_cls: unimodal.imageCls },
      });
      expect(kept.text_embed).toEqual(all.text_embed);
      expect(kept.image_embed).toEqual(all.image_embed);
      const fused = model.layout({ texts, pairs, images });
      const { itm_logits } = await model.run(match, fused, {});
      expect(itm_logits).toEqual(
        (await model.run(fusionOutputs, fused, { inputs: { pair_cls: fused.pairTextCls } })).itm_logits,
      );
    } finally {
      model.dispose();
    }
  });
});

describe('the VL branch', () => {
  it.each([0, 1, 2, 3])(
    'is the plain encoder where all experts are alike, leaving at layer %i of 3',
    async (firstVlLayer) => {
      const small = { ...presets.base, imageSize: 16, patchSize: 8, width: 32, layers: 3, heads: 2, maxTextLength: 8 };
      const config = { ...small, firstVlLayer, vocabularySize: 40, answers: 1 };
      const parameters = await initialParameters(config, createRandom(5));
      // Every expert, and the projections of the branch, get one set of numbers.
      const twin = (name: string) =>
        name
          .replace('itc_vl_', 'itc_')
          .replace('logit_vl_', 'logit_')
          .replace(/(mlp|norm2)_(text|imag|vl)/, '$1');
      const shared = new Map<string, Float32Array>();
      const engine = new Engine();
      const weights = engine.createWeights();
      for (const [name, shape] of parameterShapes(config)) {
        const values = shared.get(twin(name)) ?? parameters.get(name)!;
        shared.set(twin(name), values);
        await weights.add(name, shape, values);
      }
      try {
        const layout = layoutBatch(config, { texts: [Int32Array.of(2, 7, 3)], images: [{ picture: 0 }] }, 1);
        const program = engine.createProgram(weights, lowerFunction(dualOutputs, config, { pixels: 'f32' }).text);
        const pixels = Float32Array.from({ length: 3 * 16 * 16 }, (_, i) => Math.sin(i));
        const cls = { text_cls: layout.textCls, image_cls: layout.imageCls };
        const outputs = await program.run({ dims: layout.dims, inputs: { ...layout.inputs, ...cls, pixels } });
        expect(outputs.text_embed_vl).toEqual(outputs.text_embed);
        expect(outputs.image_embed_vl).toEqual(outputs.image_embed);

        // The same in training, where the last block works for the kept rows alone.
        await weights.enableTraining();
        const training = engine.createProgram(
          weights,
          contrastiveFunction(config, 'itc', { pixels: 'f32' }).lowered.text,
        );
        const texts = [Int32Array.of(2, 7, 3), Int32Array.of(2, 9, 11, 3)];
        const two = layoutBatch(config, { texts, images: [{ picture: 0 }, { picture: 1 }] }, 2);
        const both = Float32Array.from({ length: 2 * 3 * 16 * 16 }, (_, i) => Math.sin(i * i));
        const dims = { ...two.dims, pairs: 2 };
        const losses = await training.run({ dims, inputs: { ...two.inputs, pixels: both } });
        expect(losses['loss.itc_vl']).toEqual(losses['loss.itc']);
      } finally {
        engine.dispose();
      }
    },
  );
});
