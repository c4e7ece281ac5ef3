import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { configFromArch } from '../../src/model/config.ts';
import { dualOutputs, embed, fusionOutputs, match } from '../../src/model/functions.ts';
import { addon } from '../../src/runtime/addon.ts';
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
      const kept = await model.run(embed, unimodal);
      const all = await model.run(dualOutputs, unimodal);
      expect(kept.text_embed).toEqual(all.text_embed);
      expect(kept.image_embed).toEqual(all.image_embed);
      const fused = model.layout({ texts, pairs, images });
      const { itm_logits } = await model.run(match, fused);
      expect(itm_logits).toEqual((await model.run(fusionOutputs, fused)).itm_logits);
    } finally {
      model.dispose();
    }
  });
});
