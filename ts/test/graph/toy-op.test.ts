/**
 * docs/adding-an-op.md, the steps in TypeScript: an op is added with one object and one line, used by every reader of the graph, and
 * gone when its line is.
 */
import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, expectTypeOf, it } from 'vitest';
import {
  type Activation,
  crossEntropy,
  emitOnnx,
  fixed,
  forwardSequence,
  Graph,
  gatherRows,
  graphCost,
  layerNorm,
  lower,
  type Parameter,
  patchEmbed,
  perRun,
  printGraph,
  trainingSequence,
  type Value,
} from '../../src/graph/index.ts';
import { ops } from '../../src/graph/ops/index.ts';
import { expectSame, type KernelOp, type Node, opTable, type ViewOp } from '../../src/graph/ops/op.ts';
import { elementwiseCost } from '../../src/graph/ops/work.ts';
import { Engine } from '../../src/runtime/engine.ts';
import { expectCode } from '../helpers.ts';
import { pictureLayout } from './picture-layout.ts';

// The op: what its file would hold.

type ScaleRowsNode = Node<
  { readonly x: Value; readonly factor: Parameter },
  { readonly y: Activation; readonly norms: Activation },
  { readonly power: number }
>;

/** Every row times `factor`, element by element; `norms` are the lengths of the rows. */
function scaleRows<R extends string, W extends string>(
  x: Value<[R, W]>,
  factor: Parameter<[NoInfer<W>]>,
  power = 1,
): Activation<[R, W]> {
  expectSame('scale_rows: width of factor', x.shape[1], factor.shape[0]);
  const y = x.graph.activation(x.shape);
  const norms = x.graph.activation<[R]>([x.shape[0]]);
  x.graph.push(scaleRowsOp, { operands: { x, factor }, results: { y, norms }, attributes: { power } });
  return y;
}

const scaleRowsOp = {
  name: 'scale_rows',
  build: scaleRows,
  operands: { x: 'rows', factor: 'parameter' },
  results: { y: { inPlaceOf: 'x' }, norms: 'optional' },

  gradient({ operands, results: { y, norms }, attributes }, context) {
    const dy = context.gradient(y);
    if (dy === undefined) return;
    context.emit(scaleRowsOp, {
      operands: { ...operands, norms, dy, ...context.parameterGradients(operands) },
      gradients: { dx: operands.x },
      attributes,
      inPlace: { dx: 'dy' },
    });
  },

  cost: ({ operands: { x } }, binding) => elementwiseCost(x.shape, 3, 8, binding),

  onnx: ({ operands: { x, factor } }, emission) =>
    emission.onnx.op('Mul', [emission.tensor(x), emission.weight(factor)]),
} as const satisfies KernelOp<'scale_rows', ScaleRowsNode>;

// Its line in the table.
const extended = opTable({ ...ops, scale_rows: scaleRowsOp });

const rows = perRun('rows');
const width = fixed('width', 8);

function small(table = extended) {
  const graph = new Graph('small', table);
  const x = graph.input('x', 'f32', [rows, width]);
  const norm = { gamma: graph.parameter('gamma', [width]), beta: graph.parameter('beta', [width]) };
  const scaled = scaleRows(layerNorm(x, norm, 1e-6), graph.parameter('factor', [width]), 2);
  return { graph, scaled };
}

describe('an op that is added', () => {
  it('is built, printed and costed', () => {
    const { graph, scaled } = small();
    graph.output('scaled', scaled);
    expect(printGraph(graph)).toContain('%1 [rows x 8], %2 [rows] = scale_rows x=%0 factor=factor power=2\n');
    const { nodes, flops } = graphCost(graph, { rows: 10 });
    expect(nodes[1]).toMatchObject({ op: 'scale_rows', flops: 3 * 80, bytes: 8 * 80 });
    expect(flops).toBe((8 + 3) * 80);
  });

  it('is lowered in the memory of its operand, without the result that nothing reads', () => {
    const { graph, scaled } = small();
    graph.output('scaled', scaled);
    const { text } = lower(graph, forwardSequence(graph));
    expect(text).toContain('\nbuffer 1 f32 rows*8 alias 0\n');
    expect(text).toContain('\nop scale_rows.forward x=%0 factor=@factor y=%1 power=2\n');
  });

  it('is differentiated', () => {
    const { graph, scaled } = small();
    const loss = crossEntropy(scaled, graph.input('labels', 'i32', [rows]));
    graph.output('loss', loss);
    const all = lower(graph, trainingSequence(graph, [{ loss, weight: 1 }])).text;
    expect(all).toMatch(/\nop scale_rows\.forward x=%0 factor=@factor y=%1 norms=%2 power=2\n/);
    expect(all).toMatch(
      /\nop scale_rows\.backward x=%0 factor=@factor norms=%2 dy=%\d+ dfactor=\^factor dx=%\d+ power=2\n/,
    );
    const frozen = lower(
      graph,
      trainingSequence(graph, [{ loss, weight: 1 }], (name) => name !== 'factor'),
    ).text;
    expect(frozen).toContain('op scale_rows.backward');
    expect(frozen).not.toContain('dfactor');
  });

  it('is written as ONNX', async () => {
    const { nodes, weights } = emitOnnx(pictures(), pictureLayout, ['scaled']);
    expect(nodes.at(-1)).toMatchObject({ op_type: 'Mul', output: ['scaled'] });
    expect(nodes.at(-1)!.input[1]).toBe('factor');
    expect(await weights.get('factor')!.values(async () => Float32Array.of(1, 2))).toEqual(Float32Array.of(1, 2));
  });

  it('is refused by name while the native half is missing', async () => {
    const { graph, scaled } = small();
    graph.output('scaled', scaled);
    const { text } = lower(graph, forwardSequence(graph));
    const engine = new Engine({ threads: 1 });
    try {
      const weights = engine.createWeights();
      for (const name of ['gamma', 'beta', 'factor']) await weights.add(name, [8], new Float32Array(8));
      await expect(async () => engine.createProgram(weights, text)).rejects.toThrow(/scale_rows/);
    } finally {
      engine.dispose();
    }
  });
});

describe('an op that is taken away', () => {
  it('is refused by graphs, which keep all others', async () => {
    const { message } = await expectCode(() => small(ops as typeof extended), 'MOME_INVALID_ARGUMENT');
    expect(message).toBe('graph small: expected an op of its table, got scale_rows');
    const { scale_rows: _, ...remaining } = extended;
    expect(remaining).toEqual(ops);
  });

  it('is refused when another op has its name', async () => {
    const twin = opTable({ ...ops, scale_rows: { ...scaleRowsOp } });
    await expectCode(() => small(twin as typeof extended), 'MOME_INVALID_ARGUMENT');
  });
});

describe('an op without one of its parts', () => {
  it('does not compile', () => {
    const parts = scaleRowsOp;
    type Whole = KernelOp<'scale_rows', ScaleRowsNode>;
    expectTypeOf(parts).toExtend<Whole>();
    expectTypeOf<Omit<typeof parts, 'build'>>().not.toExtend<Whole>();
    expectTypeOf<Omit<typeof parts, 'gradient'>>().not.toExtend<Whole>();
    const { name: _name, ...nameless } = parts;
    const { build: _build, ...unbuilt } = parts;
    const { operands: _operands, ...unread } = parts;
    const { results: _results, ...unwritten } = parts;
    const { gradient: _gradient, ...constant } = parts;
    const { cost: _cost, ...free } = parts;
    const { onnx: _onnx, ...unexported } = parts;
    // @ts-expect-error no name
    opTable({ ...ops, scale_rows: nameless });
    // @ts-expect-error no function that builds it
    opTable({ ...ops, scale_rows: unbuilt });
    // @ts-expect-error no roles of operands
    opTable({ ...ops, scale_rows: unread });
    // @ts-expect-error no memory of results
    opTable({ ...ops, scale_rows: unwritten });
    // @ts-expect-error no gradient rule
    opTable({ ...ops, scale_rows: constant });
    // @ts-expect-error no cost
    opTable({ ...ops, scale_rows: free });
    // @ts-expect-error no ONNX form
    opTable({ ...ops, scale_rows: unexported });
    // @ts-expect-error the name of another op
    opTable({ ...ops, scale_columns: parts });
  });

  it('does not compile with a role or a result that is missing or wrong', () => {
    type Whole = KernelOp<'scale_rows', ScaleRowsNode>;
    // @ts-expect-error `factor` has no role
    ({ ...scaleRowsOp, operands: { x: 'rows' } }) satisfies Whole;
    // @ts-expect-error rows are no matrix
    ({ ...scaleRowsOp, operands: { x: 'matrix', factor: 'parameter' } }) satisfies Whole;
    // @ts-expect-error a parameter is no input
    ({ ...scaleRowsOp, operands: { x: 'rows', factor: 'input' } }) satisfies Whole;
    // @ts-expect-error `norms` is not said to be required or optional
    ({ ...scaleRowsOp, results: { y: 'required' } }) satisfies Whole;
    // @ts-expect-error there is no operand `z`
    ({ ...scaleRowsOp, results: { y: { inPlaceOf: 'z' }, norms: 'optional' } }) satisfies Whole;
    // @ts-expect-error a view says which memory it shares
    ({ name: 'scale_rows', build: scaleRows, gradient: () => {}, onnx: () => '' }) satisfies ViewOp<'scale_rows'>;
    expect(() => opTable({ ...ops, scale_rows: scaleRowsOp })).not.toThrow();
  });

  it('does not compile in a node without its operands, or on other dimensions', async () => {
    const { graph } = small();
    const x = graph.input('x', 'f32', [rows, width]);
    const factor = graph.parameter('factor', [width]);
    expectTypeOf(scaleRows(x, factor)).toEqualTypeOf<Activation<['rows', 'width']>>();
    const results = { y: graph.activation([rows, width]), norms: graph.activation([rows]) };
    // @ts-expect-error no factor
    graph.push(scaleRowsOp, { operands: { x }, results, attributes: { power: 1 } });
    // @ts-expect-error no power
    graph.push(scaleRowsOp, { operands: { x, factor }, results, attributes: {} });
    // @ts-expect-error a factor of another dimension
    scaleRows(x, graph.parameter('other', [fixed('hidden', 8)]));
    await expectCode(() => scaleRows(x, graph.parameter('short', [fixed('width', 4)])), 'MOME_INVALID_SHAPE');
  });
});

describe('the table', () => {
  it('holds the op of every file in ops/, under the name of the file', async () => {
    const folder = new URL('../../src/graph/ops/', import.meta.url);
    const found: string[] = [];
    for (const file of await readdir(folder)) {
      const name = /satisfies (?:Kernel|View)Op<'(\w+)'/.exec(await readFile(new URL(file, folder), 'utf8'))?.[1];
      if (name === undefined) continue;
      expect(file).toBe(`${name.replaceAll('_', '-')}.ts`);
      found.push(name);
    }
    expect(found.sort()).toEqual(Object.keys(ops).sort());
  });
});

/** The scaled CLS rows of pictures of 4 pixels in patches of 2. */
function pictures() {
  const graph = new Graph('pictures', extended);
  const sides = [fixed('imageHeight', 4), fixed('imageWidth', 4)] as const;
  const perImage = (name: string) => graph.input(name, 'i32', [perRun('images')]);
  const embedded = patchEmbed(
    graph.input('pixels', 'f32', [perRun('pictures'), fixed('channels', 3), ...sides]),
    perImage('picture'),
    perImage('type_index'),
    rows,
    {
      projection: {
        weight: graph.parameter('patch', [width, fixed('patch', 12)]),
        bias: graph.parameter('bias', [width]),
      },
      cls: graph.parameter('cls_token', [fixed('one', 1), fixed('one', 1), width]),
      position: undefined,
      type: graph.parameter('types', [fixed('types', 3), width]),
    },
    { imageSize: 4, patchSize: 2 },
  );
  const cls = gatherRows(embedded, graph.input('cls', 'i32', [perRun('count')]));
  graph.output('scaled', scaleRows(cls, graph.parameter('factor', [width])));
  return graph;
}
