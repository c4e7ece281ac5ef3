import { describe, expect, expectTypeOf, it } from 'vitest';
import { presets } from '../../src/architecture/config.ts';
import {
  type Activation,
  crossEntropy,
  fixed,
  forwardSequence,
  Graph,
  graphCost,
  layerNorm,
  linear,
  lower,
  perRun,
  printGraph,
  trainingSequence,
} from '../../src/graph/index.ts';
import { embed, lowerFunction } from '../../src/model/functions.ts';
import { contrastiveFunction } from '../../src/model/objectives.ts';
import { expectCode } from '../helpers.ts';

const rows = perRun('rows');
const width = fixed('width', 8);
const classes = fixed('classes', 3);

function small() {
  const graph = new Graph('small');
  const x = graph.input('x', 'f32', [rows, width]);
  const norm = { gamma: graph.parameter('norm.weight', [width]), beta: graph.parameter('norm.bias', [width]) };
  const map = { weight: graph.parameter('map.weight', [classes, width]), bias: graph.parameter('map.bias', [classes]) };
  const logits = linear(layerNorm(x, norm, 1e-6), map);
  return { graph, x, norm, map, logits };
}

describe('graph', () => {
  it('prints what runs', () => {
    const { graph, logits } = small();
    graph.output('logits', logits);
    expect(printGraph(graph)).toMatchInlineSnapshot(`
      "graph small
        $x [rows x 8] f32
        %0 [rows x 8] = layer_norm x=$x gamma=norm.weight beta=norm.bias eps=0.000001
        %1 [rows x 3] = linear x=%0 weight=map.weight bias=map.bias
        output logits = %1 [rows x 3]
      "
    `);
  });

  it('lowers to a program whose memory is reused', () => {
    const { graph, logits } = small();
    graph.output('logits', logits);
    const { text } = lower(graph, forwardSequence(graph));
    expect(text).toContain('mome-program 1');
    expect(text.match(/^op /gm)).toHaveLength(2);
    const base = lowerFunction(embed, presets.base).text;
    expect(base).toContain('expert_ffn.forward');
  });

  it('knows its cost', () => {
    const { graph, logits } = small();
    graph.output('logits', logits);
    const cost = graphCost(graph, { rows: 10 } as never);
    expect(cost.nodes).toHaveLength(2);
    expect(cost.nodes[1]!.flops).toBe(2 * 10 * 8 * 3);
    expect(cost.nodes.reduce((sum, { flops }) => sum + flops, 0)).toBe(cost.flops);
  });

  it('differentiates only towards what is trained', () => {
    const { graph, logits } = small();
    const loss = crossEntropy(logits, graph.input('labels', 'i32', [rows]));
    graph.output('loss', loss);
    const all = lower(graph, trainingSequence(graph, [{ loss, weight: 1 }])).text;
    expect(all).toContain('^norm.weight');
    const some = lower(
      graph,
      trainingSequence(graph, [{ loss, weight: 1 }], (name) => name.startsWith('map')),
    ).text;
    expect(some).not.toContain('^norm');
    expect(some).not.toContain('layer_norm.backward');
    expect(some).toContain('^map.weight');
  });

  it('refuses what does not fit', async () => {
    const { graph } = small();
    await expectCode(() => graph.parameter('map.weight', [fixed('classes', 4), width]), 'MOME_INVALID_SHAPE');
    await expectCode(() => trainingSequence(graph, []), 'MOME_INVALID_ARGUMENT');
  });

  it('does not compile a wrong composition', () => {
    const { graph, x, map, norm } = small();
    expectTypeOf(linear(x, map)).toEqualTypeOf<Activation<['rows', 'classes']>>();
    const other = graph.input('other', 'f32', [rows, fixed('height', 8)]);
    // @ts-expect-error rows x height is not rows x width
    linear(other, map);
    // @ts-expect-error a norm of another dimension
    layerNorm(other, norm, 1e-6);
  });

  it('freezes parameters in the objectives of a model', () => {
    const config = { ...presets.base, layers: 2, firstVlLayer: 1 };
    const { lowered } = contrastiveFunction(config, 'irtr', { pixels: 'u8' }, (name) => name.includes('itc_'));
    expect(lowered.text).toContain('^itc_text_proj.fc.weight');
    expect(lowered.text).not.toContain('attention.backward');
  });
});
