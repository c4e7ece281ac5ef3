/** Every kind of released file: it loads without a `config.json`, runs what its heads allow, and says which file another call needs. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { convertCheckpoint, inspectCheckpoint, openCheckpoint } from '../../src/checkpoint/index.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { expectCode, temporaryFolder, testImage, tinyVocabulary } from '../helpers.ts';
import {
  type Around,
  type ReleasedKind,
  releasedArchs,
  releasedKinds,
  releasedShapes,
  saveReleased,
} from './released-files.ts';
import type { Rebuild } from './torch-save.ts';
import { rewriteTypes } from './two-types.ts';

let folder = '';
beforeAll(async () => {
  folder = await temporaryFolder();
});

const red = testImage(1);
const blue = testImage(2);
/** A call for each head. */
const calls: Readonly<Record<string, (model: Vlmo) => Promise<ArrayLike<number>>>> = {
  embed: async (model) => [
    ...(await model.embedTexts(['a red square'])).embeddings,
    ...(await model.embedImages([red])).embeddings,
  ],
  match: (model) => model.match([{ image: red, text: 'a red square' }]),
  answer: async (model) => (await model.answer(red, 'red', { k: 3 })).map(({ score }) => score),
  reason: async (model) => [(await model.reason([red, blue], 'a red square')).probability],
  fillMask: async (model) => (await model.fillMask(null, 'a [MASK] square'))[0]!.candidates.map(({ score }) => score),
};
/** What a call without its head asks for. */
const asked: Readonly<Record<string, RegExp>> = {
  embed: /pre-trained file or one tuned for retrieval/,
  match: /pre-trained file/,
  answer: /tuned for VQA/,
  reason: /tuned for NLVR2/,
  fillMask: /pre-trained file/,
};
const allowed: Readonly<Record<ReleasedKind, readonly string[]>> = {
  'pre-trained': ['embed', 'match', 'fillMask'],
  'text pre-trained': ['fillMask'],
  'COCO retrieval': ['embed'],
  'F30K retrieval': ['embed'],
  VQA: ['answer'],
  NLVR2: ['reason'],
};

async function released(
  arch: keyof typeof releasedArchs,
  kind: ReleasedKind,
  options: { readonly around: Around; readonly half?: boolean; readonly rebuild?: Rebuild },
): Promise<string> {
  const own = join(folder, `${arch}-${kind}-${options.around}`.replaceAll(' ', '-'));
  await mkdir(own, { recursive: true });
  const path = join(own, 'released.pt');
  await saveReleased(path, releasedArchs[arch], kind, options);
  const pieces = tinyVocabulary();
  await writeFile(join(own, 'vocab.txt'), `${pieces.join('\n')}\n`);
  return path;
}

/** What the names and shapes of a file say. */
function configOf(arch: keyof typeof releasedArchs, kind: ReleasedKind) {
  const { width, layers, heads, firstVl, absolute, vocabulary } = releasedArchs[arch];
  const { image, text, types, vl } = releasedKinds[kind];
  return {
    imageSize: image,
    patchSize: 16,
    width,
    layers,
    heads,
    hiddenRatio: 4,
    firstVlLayer: vl ? firstVl : layers,
    positions: absolute ? 'absolute' : 'relative',
    layerScale: absolute ? null : 0.1,
    maxTextLength: text,
    maxTextLengthOfInit: 196,
    vocabularySize: vocabulary,
    answers: 3129,
    ...(types === 2 && { tokenTypes: 2 }),
  };
}

const small = ['smallBase', 'smallBasePlus', 'smallLarge'] as const;
const arounds = ['module', 'state_dict', 'model', 'bare'] as const;
const rebuilds = ['v2', 'parameter', 'with_state', 'from_type'] as const;
const cases = small.flatMap((arch, a) =>
  (Object.keys(releasedKinds) as ReleasedKind[]).map((kind, k) => ({
    arch,
    kind,
    around: arounds[(a + k) % 4]!,
    half: (a + k) % 2 === 1,
    rebuild: rebuilds[k % 4]!,
  })),
);

describe('released files', () => {
  it.each(cases)('$arch, $kind, under $around, half precision $half', async ({ arch, kind, ...options }) => {
    const path = await released(arch, kind, options);
    const report = await inspectCheckpoint(path);
    expect(report).toMatchObject({ kind: 'vlmo', configFrom: 'shapes', problem: null, unexpected: [] });
    expect(report.wrapper).toBe(options.around === 'bare' ? null : options.around);
    expect(report.config).toEqual(configOf(arch, kind));
    const model = await Vlmo.load(path, { threads: 1 });
    const own = allowed[kind];
    const results = new Map<string, ArrayLike<number>>();
    try {
      expect(model.config).toEqual(configOf(arch, kind));
      for (const [name, call] of Object.entries(calls)) {
        if (!own.includes(name)) {
          expect((await expectCode(() => call(model), 'MOME_UNSUPPORTED')).message).toMatch(asked[name]!);
          continue;
        }
        const values = await call(model);
        expect(values.length).toBeGreaterThan(0);
        expect(Array.from(values).every(Number.isFinite)).toBe(true);
        results.set(name, values);
      }
    } finally {
      await model.dispose();
    }
    // Written back, it is the same model with as many token types.
    const target = `${path}-converted`;
    await convertCheckpoint(path, target);
    const shapes = releasedShapes(releasedArchs[arch], kind);
    const { entries } = await openCheckpoint(join(target, 'model.safetensors'));
    expect(new Map([...entries].map(([name, { shape }]) => [name, shape]))).toEqual(shapes);
    const again = await Vlmo.load(target, { threads: 1 });
    for (const [name, values] of results) expect(await calls[name]!(again)).toEqual(values);
    await again.dispose();
  });

  it('of two token types give the third one to a head that compares two pictures', async () => {
    const own = join(folder, 'two');
    await mkdir(own);
    const tuned = await released('smallBase', 'NLVR2', { around: 'bare' });
    const kept = join(own, 'three');
    await convertCheckpoint(tuned, kept);
    const two = join(own, 'two');
    const copied = join(own, 'copied');
    await rewriteTypes(kept, two, (types, width) => types.slice(0, 2 * width));
    await rewriteTypes(kept, copied, (types, width) => {
      types.copyWithin(2 * width, width, 2 * width);
      return types;
    });
    const results: number[] = [];
    for (const each of [kept, two, copied]) {
      const model = await Vlmo.load(each, { threads: 1 });
      results.push((await model.reason([red, blue], 'a red square')).probability);
      await model.dispose();
    }
    expect(results[1]).toBe(results[2]);
    expect(results[0]).not.toBe(results[1]);
    // What was read is written back.
    const back = join(own, 'back');
    await convertCheckpoint(two, back);
    const { entries } = await openCheckpoint(join(back, 'model.safetensors'));
    expect(entries.get('token_type_embeddings.weight')!.shape).toEqual([2, 64]);
  });

  it.each([
    ['base', 'state_dict'],
    ['base_plus', 'module'],
  ] as const)(
    '%s at full size',
    async (arch, around) => {
      const path = await released(arch, 'pre-trained', { around, half: true });
      try {
        const model = await Vlmo.load(path);
        try {
          expect(model.config).toEqual(configOf(arch, 'pre-trained'));
          const values = await calls.embed!(model);
          expect(values.length).toBe(2 * releasedArchs[arch].width);
          expect(Array.from(values).every(Number.isFinite)).toBe(true);
        } finally {
          await model.dispose();
        }
      } finally {
        await rm(path);
      }
    },
    120_000,
  );
});
