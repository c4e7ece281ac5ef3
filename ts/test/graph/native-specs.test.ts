/**
 * The ops of both languages: what the native side says of an op (`ops()` of the addon) against what the graph's programs make of it.
 */
import { describe, expect, it } from 'vitest';
import { presets, type VlmoConfig } from '../../src/architecture/config.ts';
import {
  crossEntropy,
  fixed,
  Graph,
  type Lowered,
  linear,
  lower,
  perRun,
  tanh,
  trainingSequence,
} from '../../src/graph/index.ts';
import { ops } from '../../src/graph/ops/index.ts';
import type { KernelOp } from '../../src/graph/ops/op.ts';
import { contrastiveFunction, fusedFunction, mimFunction, textMlmFunction } from '../../src/model/objectives.ts';
import { addon } from '../../src/runtime/addon.ts';

const native = new Map(
  addon()
    .ops()
    .map((op) => [op.name, op]),
);
/** The ops of the graph that are kernel calls; the others only rename memory. */
const graphOps = Object.values(ops).filter((op): op is Extract<typeof op, KernelOp> => !('views' in op));

/** Positions of both kinds, with a head for every objective. */
const configs: readonly VlmoConfig[] = [presets.base, presets.base_plus].map((preset) => ({
  ...preset,
  layers: 3,
  firstVlLayer: 2,
  answers: 7,
}));

/** A value that two losses read, whose gradients are added up. */
function readTwice(): Lowered {
  const graph = new Graph('read_twice');
  const [rows, width] = [perRun('rows'), fixed('width', 8)];
  const hidden = tanh(graph.input('x', 'f32', [rows, width]));
  const mapped = linear(hidden, { weight: graph.parameter('first', [width, width]) });
  const labels = graph.input('labels', 'i32', [rows]);
  const heads = ['second', 'third'].map((name) => linear(mapped, { weight: graph.parameter(name, [width, width]) }));
  return lower(
    graph,
    trainingSequence(
      graph,
      heads.map((logits) => ({ loss: crossEntropy(logits, labels), weight: 1 })),
    ),
  );
}

/** Forward and backward of all objectives, and of a value that is read twice: together they call every op. */
function programs(): readonly Lowered[] {
  const objectives = configs.flatMap((config) => {
    const options = { pixels: 'u8', textDropout: 0.1, dropPath: true, groups: true, vlBranch: true } as const;
    return [
      contrastiveFunction(config, 'itc', options).lowered,
      fusedFunction(config, ['itm', 'mlm', 'vqa', 'nlvr2'], options).lowered,
      textMlmFunction(config, options).lowered,
      mimFunction({ ...config, visualTokens: 11 }, options).lowered,
    ];
  });
  return [...objectives, readTwice()];
}

/** Calls as `op.direction`, with the keys of their results. */
const calls = new Map<string, Set<string>>();
for (const { instructions } of programs()) {
  for (const { op, direction, results } of instructions) {
    const keys = calls.get(`${op}.${direction}`) ?? new Set();
    for (const key of Object.keys(results)) keys.add(key);
    calls.set(`${op}.${direction}`, keys);
  }
}

/** The operands that have a role in the kernel, with the native key for one of an expert's: `fc1_0` -> `fc1_#`. */
function keysOf(op: KernelOp, role: 'matrix' | 'rows'): string[] {
  const keys = Object.entries(op.operands).filter(([, each]) => each === role);
  return [...new Set(keys.map(([key]) => key.replace(/(?<=_)\d$/, '#')))].sort();
}

describe('ops of both languages', () => {
  it('have the same names', () => {
    const callable = [...native.values()].filter(({ directions }) => directions.length > 0);
    expect(callable.map(({ name }) => name).sort()).toEqual(graphOps.map(({ name }) => name).sort());
  });

  it('are called in the directions that the native side decodes', () => {
    for (const { name, directions } of native.values()) {
      expect({
        name,
        directions: ['forward', 'backward'].filter((direction) => calls.has(`${name}.${direction}`)),
      }).toEqual({
        name,
        directions,
      });
    }
  });

  it.each(graphOps)('$name has the same results', (op) => {
    const { results, backwardResults } = native.get(op.name)!;
    expect(Object.keys(op.results).sort()).toEqual([...results].sort());
    expect([...(calls.get(`${op.name}.backward`) ?? [])].sort()).toEqual([...backwardResults].sort());
  });

  it.each(graphOps)('$name reads the same matrices and rows', (op) => {
    const { matrices, rows } = native.get(op.name)!;
    expect(keysOf(op, 'matrix')).toEqual([...matrices].sort());
    expect(keysOf(op, 'rows')).toEqual([...rows].sort());
  });

  it('keeps in 8 bits the matrices of blocks alone', () => {
    const int8 = [...native.values()].filter(({ int8Matrices }) => int8Matrices);
    expect(int8.map(({ name }) => name).sort()).toEqual(['expert_ffn', 'proj_residual', 'qkv']);
    for (const { matrices } of int8) expect(matrices).not.toEqual([]);
  });
});
