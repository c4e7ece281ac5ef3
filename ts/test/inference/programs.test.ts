/**
 * Lowered programs as files, for machines without Node (native/tools/mome_run.cc, scripts/gpu/run.py): the reference cases and the base
 * model at the sizes that are measured. `vitest run ts/test/inference/programs.test.ts -u` writes them anew after a change of the graph.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { configFromArch, imageTokensOf, presets } from '../../src/architecture/config.ts';
import { type Batch, type BatchItems, layoutBatch } from '../../src/model/batch.ts';
import {
  dualOutputs,
  embed,
  fusionOutputs,
  lowerFunction,
  type ModelFunction,
  match,
  mixed,
} from '../../src/model/functions.ts';
import { CaseTensors, readCaseConfig } from '../../src/verify/case-files.ts';
import { readTexts } from '../../src/verify/model-case.ts';
import { golden } from '../helpers.ts';

const folder = new URL('../../../native/test/programs/', import.meta.url).pathname;

const inputsOf = ({ inputs, dims, textCls, imageCls, pairTextCls }: Batch) => {
  const all = (rows: Int32Array, count: number) => Int32Array.from({ length: count }, (_, i) => rows[i] ?? 0);
  return Object.fromEntries(
    Object.entries({
      ...inputs,
      text_cls: all(textCls, dims.texts),
      image_cls: all(imageCls, dims.image_count),
      pair_cls: all(pairTextCls, dims.pairs),
    }).map(([name, values]) => [name, [...values]]),
  );
};
const stored = (value: object): string => `${JSON.stringify(value)}\n`;

describe('programs of the reference cases', () => {
  for (const name of ['tiny_absolute', 'tiny_relative']) {
    it(name, async () => {
      const config = configFromArch((await readCaseConfig(golden(name))).arch);
      const tensors = await CaseTensors.open(join(golden(name), 'inputs.safetensors'));
      const batch = tensors.entry('image').shape[0]!;
      const texts = await readTexts(tensors, 'text_ids', batch);
      const lengths = texts.map((text) => text.length);
      const images = texts.map((_, picture) => ({ picture }));
      const rows = (begins: Int32Array, each: readonly number[], length: number) => ({
        begins: [...begins],
        lengths: each,
        length,
      });
      // With a batch that runs between the others, sizes are in buckets, the same for both: one recording serves them.
      const part = (
        build: ModelFunction,
        items: BatchItems,
        between: BatchItems | undefined,
        outputs: (layout: Batch) => object[],
      ) => {
        const layout = layoutBatch(config, items, batch, between !== undefined);
        const other = between && layoutBatch(config, between, batch, true);
        if (other) {
          const differing = (Object.keys(layout.dims) as (keyof Batch['dims'])[]).filter(
            (dim) => layout.dims[dim] !== other.dims[dim],
          );
          expect(differing).not.toEqual([]);
          for (const dim of differing) expect(dim).toMatch(/_(begin|end)$/);
        }
        return {
          program: lowerFunction(build, config, { pixels: 'f32' }).text,
          dims: layout.dims,
          inputs: inputsOf(layout),
          ...(other && { between: { dims: other.dims, inputs: inputsOf(other) } }),
          outputs: outputs(layout),
        };
      };
      const tokens = imageTokensOf(config);
      const L = config.maxTextLength;
      const dual = (between?: BatchItems) =>
        part(dualOutputs, { texts, images }, between, (layout) => [
          {
            name: 'hidden',
            golden: 'dual/image_hidden',
            rows: rows(
              layout.imageCls,
              texts.map(() => tokens),
              tokens,
            ),
          },
          { name: 'hidden', golden: 'dual/text_hidden', rows: rows(layout.textCls, lengths, L) },
          ...['image_embed', 'text_embed', 'image_embed_vl', 'text_embed_vl'].map((output) => ({
            name: output,
            golden: `dual/${output}`,
          })),
        ]);
      const pairs = texts.map((text, picture) => ({ text, picture }));
      const fusion = (between?: BatchItems) =>
        part(fusionOutputs, { pairs }, between, (layout) => [
          { name: 'hidden', golden: 'fusion/text_hidden', rows: rows(layout.pairTextCls, lengths, L) },
          {
            name: 'hidden',
            golden: 'fusion/image_hidden',
            rows: rows(
              layout.pairImageCls,
              texts.map(() => tokens),
              tokens,
            ),
          },
          ...['pooled', 'itm_logits'].map((output) => ({ name: output, golden: `fusion/${output}` })),
        ]);
      const parts = {
        dual: dual(),
        fusion: fusion(),
        'dual in buckets': dual({ texts: texts.slice(1), images }),
        'fusion in buckets': fusion({ pairs: pairs.map(({ picture }) => ({ picture, text: texts[0]! })) }),
      };
      await expect(stored({ width: config.width, parts })).toMatchFileSnapshot(join(folder, `${name}.json`));
    });
  }
});

describe('programs of the base model', () => {
  const config = presets.base;
  const text = Int32Array.from({ length: 12 }, (_, i) => (i === 0 ? 101 : i === 11 ? 102 : 2000 + 37 * i));
  const pictures = (count: number) => Array.from({ length: count }, (_, picture) => ({ picture }));
  const shapes = (items: Readonly<Record<string, readonly [BatchItems, number]>>) =>
    Object.fromEntries(
      Object.entries(items).map(([name, [batch, count]]) => {
        const layout = layoutBatch(config, batch, count);
        return [name, { dims: layout.dims, inputs: inputsOf(layout) }];
      }),
    );
  const texts = (count: number) => Array.from({ length: count }, () => text);
  const pairs = (count: number) => pictures(count).map((item) => ({ ...item, text }));
  const files: Readonly<Record<string, readonly [ModelFunction, ReturnType<typeof shapes>]>> = {
    'base.embed': [
      embed,
      shapes({
        'images 1': [{ images: pictures(1) }, 1],
        'images 8': [{ images: pictures(8) }, 8],
        'images 64': [{ images: pictures(64) }, 64],
        'images 256': [{ images: pictures(256) }, 256],
        'texts 1': [{ texts: texts(1) }, 0],
        'texts 64': [{ texts: texts(64) }, 0],
        'images 32': [{ images: pictures(32) }, 32],
      }),
    ],
    'base.match': [match, shapes({ 'pairs 32': [{ pairs: pairs(32) }, 32] })],
    'base.mixed': [
      mixed,
      shapes({ 'images 32, texts 64, pairs 32': [{ images: pictures(32), texts: texts(64), pairs: pairs(32) }, 32] }),
    ],
  };
  for (const [name, [build, sizes]] of Object.entries(files)) {
    it(name, async () => {
      const program = lowerFunction(build, config).text;
      await expect(stored({ imageSize: config.imageSize, program, shapes: sizes })).toMatchFileSnapshot(
        join(folder, `${name}.json`),
      );
    });
  }
});
