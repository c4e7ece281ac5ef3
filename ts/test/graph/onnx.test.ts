import { describe, expect, it } from 'vitest';
import {
  crossEntropy,
  decodeModel,
  emitOnnx,
  encodeModel,
  fixed,
  Graph,
  gatherRows,
  linear,
  patchEmbed,
  perRun,
  toModel,
} from '../../src/graph/index.ts';
import { expandBias, tableRow, tableRows } from '../../src/graph/onnx/relative-position.ts';
import { expectCode } from '../helpers.ts';
import { pictureLayout } from './picture-layout.ts';

/** Pictures of 4 pixels in patches of 2, one linear map of their CLS rows, and a loss. */
function small(index = 'cls') {
  const graph = new Graph('small');
  const [width, patch, types] = [fixed('width', 6), fixed('patch', 12), fixed('types', 3)];
  const pixels = graph.input('pixels', 'f32', [
    perRun('pictures'),
    fixed('channels', 3),
    fixed('imageHeight', 4),
    fixed('imageWidth', 4),
  ]);
  const perImage = (name: string) => graph.input(name, 'i32', [perRun('images')]);
  const rows = patchEmbed(
    pixels,
    perImage('picture'),
    perImage('type_index'),
    perRun('rows'),
    {
      projection: { weight: graph.parameter('patch', [width, patch]), bias: graph.parameter('bias', [width]) },
      cls: graph.parameter('cls_token', [fixed('one', 1), fixed('one', 1), width]),
      position: undefined,
      type: graph.parameter('types', [types, width]),
    },
    { imageSize: 4, patchSize: 2 },
  );
  const cls = gatherRows(rows, graph.input(index, 'i32', [perRun('count')]));
  const logits = linear(cls, { weight: graph.parameter('head', [fixed('classes', 2), width]) });
  graph.output('logits', logits);
  graph.output('loss', crossEntropy(logits, graph.input('labels', 'i32', [perRun('count')])));
  graph.output('rows', rows);
  return graph;
}

describe('emitOnnx', () => {
  it('emits what an output needs and nothing else', async () => {
    const { nodes, inputs, outputs, weights } = emitOnnx(small(), pictureLayout, ['logits']);
    expect(nodes.at(-1)).toMatchObject({ op_type: 'MatMul', output: ['logits'] });
    expect(inputs).toEqual([{ name: 'pixels', type: 'float', shape: ['batch', 3, 4, 4] }]);
    expect(outputs).toEqual([{ name: 'logits', type: 'float', shape: ['batch', 2] }]);
    expect([...weights.keys()]).toEqual(['patch.kernel', 'bias', 'cls_token', 'types.row_1', 'head.transposed']);
    const head = Float32Array.from({ length: 12 }, (_, i) => i);
    expect(await weights.get('head.transposed')!.values(async () => head)).toEqual(
      Float32Array.of(0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11),
    );
    expect(await weights.get('types.row_1')!.values(async () => new Float32Array(18).map((_, i) => i))).toEqual(
      Float32Array.of(6, 7, 8, 9, 10, 11),
    );
  });

  it('refuses losses, other rows than first tokens, and unknown outputs', async () => {
    const loss = await expectCode(() => emitOnnx(small(), pictureLayout, ['loss']), 'MOME_UNSUPPORTED');
    expect(loss.message).toContain('cross_entropy');
    await expectCode(() => emitOnnx(small('mlm_rows'), pictureLayout, ['logits']), 'MOME_UNSUPPORTED');
    await expectCode(() => emitOnnx(small(), pictureLayout, ['nothing']), 'MOME_INVALID_ARGUMENT');
  });

  it('survives its own bytes', () => {
    const graph = emitOnnx(small(), pictureLayout, ['logits']);
    const places = new Map([...graph.weights.keys()].map((name, i) => [name, { offset: 2 ** 33 + i, length: i }]));
    const model = toModel(graph, 'weights.data', places, { version: '1.2.3', metadata: { imageSize: '4' } });
    const read = decodeModel(encodeModel(model));
    expect(read.producer_version).toBe('1.2.3');
    expect(read.graph.node.map(({ name }) => name)).toEqual(graph.nodes.map(({ name }) => name));
    const weight = read.graph.initializer.find(({ name }) => name === 'bias')!;
    expect(weight.external_data).toContainEqual({ key: 'offset', value: String(2 ** 33 + 1) });
    expect(read.graph.initializer.find(({ name }) => name === 'ints.0_0_-1')?.raw_data).toHaveLength(24);
  });
});

describe('relative positions', () => {
  const table = { grid: 2, textInitLength: 4 };
  const image = (index: number) => ({ part: 'image' as const, index });
  const text = (index: number) => ({ part: 'text' as const, index });

  it('reads the row of each kind of pair', () => {
    // 9 offsets of the 2 x 2 grid, 3 CLS rows, 2 across, then text offsets and 3 CLS rows: 22 rows.
    expect(tableRow(table, image(1), image(1))).toBe(4);
    expect(tableRow(table, image(4), image(1))).toBe(8);
    expect([tableRow(table, image(0), image(3)), tableRow(table, image(3), image(0))]).toEqual([9, 10]);
    expect(tableRow(table, image(0), image(0))).toBe(11);
    expect([tableRow(table, text(1), image(2)), tableRow(table, image(2), text(1))]).toEqual([12, 13]);
    expect([tableRow(table, text(1), text(3)), tableRow(table, text(3), text(1))]).toEqual([18, 14]);
    expect([tableRow(table, text(0), text(2)), tableRow(table, text(2), text(0))]).toEqual([19, 20]);
    expect(tableRow(table, text(0), text(0))).toBe(21);
  });

  it('expands the columns of one layer', () => {
    const rows = tableRows(table, [image(0), text(0)]);
    expect([...rows]).toEqual([11, 13, 12, 21]);
    const values = Float32Array.from({ length: 22 * 4 }, (_, i) => i);
    expect([...expandBias(values, 4, rows, 2, 2)]).toEqual([46, 54, 50, 86, 47, 55, 51, 87]);
  });
});
