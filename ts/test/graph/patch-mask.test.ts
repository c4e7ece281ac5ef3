/** Masked patches in a graph: shapes, gradients that are wanted, what a run refuses, and ONNX. */
import { describe, expect, it } from 'vitest';
import { parameterShapes } from '../../src/architecture/parameters.ts';
import { emitOnnx, fixed, Graph, patchEmbed, perRun } from '../../src/graph/index.ts';
import { initialParameters } from '../../src/model/initialise.ts';
import { mimFunction, parametersWithGradient } from '../../src/model/objectives.ts';
import { Engine } from '../../src/runtime/engine.ts';
import { maskedPictures } from '../../src/train/objectives/pictures.ts';
import { createRandom } from '../../src/train/random.ts';
import { expectCode } from '../helpers.ts';
import { tinyConfig } from '../train/tiny-model.ts';
import { pictureLayout } from './picture-layout.ts';

const config = { ...tinyConfig, visualTokens: 9 };

/** Embeds pictures of 16 pixels in patches of 8, with a mask of `patches` flags and a token of `width`. */
function embedded({
  patches = 4,
  width = 6,
  images = 'images',
}: {
  patches?: number;
  width?: number;
  images?: string;
}) {
  const graph = new Graph('masked');
  const [one, six, patch] = [fixed('one', 1), fixed('width', 6), fixed('patch', 192)];
  const [side, channels] = [fixed('imageHeight', 16), fixed('channels', 3)];
  const shown = perRun('images');
  const out = patchEmbed(
    graph.input('pixels', 'f32', [perRun('pictures'), channels, side, fixed('imageWidth', 16)]),
    graph.input('picture', 'i32', [shown]),
    graph.input('type_index', 'i32', [shown]),
    perRun('rows'),
    {
      projection: { weight: graph.parameter('weight', [six, patch]), bias: graph.parameter('bias', [six]) },
      cls: graph.parameter('cls', [one, one, six]),
      position: undefined,
      type: graph.parameter('type', [fixed('types', 3), six]),
    },
    { imageSize: 16, patchSize: 8 },
    {
      flags: graph.input('mask', 'i32', [perRun(images as 'images'), fixed('patches', patches)]),
      token: graph.parameter('token', [one, one, fixed('width', width)]),
    },
  );
  graph.output('out', out);
  return graph;
}

describe('masked patches in a graph', () => {
  it('have a flag for each patch of each image, and a token as wide as the model', async () => {
    expect(embedded({}).nodes.length).toBe(1);
    await expectCode(() => embedded({ patches: 5 }), 'MOME_INVALID_SHAPE');
    await expectCode(() => embedded({ width: 7 }), 'MOME_INVALID_SHAPE');
    await expectCode(() => embedded({ images: 'pictures' }), 'MOME_INVALID_SHAPE');
  });

  it('are not written as ONNX', async () => {
    const { message } = await expectCode(() => emitOnnx(embedded({}), pictureLayout, ['out']), 'MOME_UNSUPPORTED');
    expect(message).toContain('masked patches');
  });

  it('take no gradient that is frozen', () => {
    const masks = Int32Array.of(1, 0, 0, 1);
    const { dims } = maskedPictures(config, new Int32Array(4), masks);
    const names = (trainable: (name: string) => boolean) =>
      parametersWithGradient(mimFunction(config, { pixels: 'u8' }, trainable), dims);
    expect(names(() => true)).toContain('transformer.mask_token');
    expect(names((name) => name !== 'transformer.mask_token')).not.toContain('transformer.mask_token');
    expect([...names((name) => name === 'transformer.mask_token')]).toEqual(['transformer.mask_token']);
  });

  it('are flags of 0 and 1 in a run, as many as there are patches', async () => {
    const engine = new Engine({ threads: 1 });
    const weights = engine.createWeights();
    const parameters = await initialParameters(config, createRandom(1));
    for (const [name, shape] of parameterShapes(config)) await weights.add(name, shape, parameters.get(name)!);
    await weights.enableTraining();
    const program = engine.createProgram(weights, mimFunction(config, { pixels: 'u8' }).lowered.text);
    const { dims, inputs } = maskedPictures(config, new Int32Array(4), Int32Array.of(1, 0, 0, 1));
    const run = (patch_mask: Int32Array) =>
      program.run({ dims, inputs: { ...inputs, bytes: new Uint8Array(768), patch_mask } });
    const loss = (await run(inputs.patch_mask))['loss.mim']![0]!;
    expect(loss).toBeGreaterThan(1);
    for (const wrong of [Int32Array.of(1, 0, 0, 2), Int32Array.of(-1, 0, 0, 1)])
      await expectCode(() => run(wrong), 'MOME_INVALID_ARGUMENT');
    await expectCode(() => run(Int32Array.of(1, 0, 0)), 'MOME_INVALID_SHAPE');
    expect((await run(inputs.patch_mask))['loss.mim']![0]).toBe(loss);
    engine.dispose();
  });
});
