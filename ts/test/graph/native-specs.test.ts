/**
 * The ops of both languages: what the native side says of an op (`ops()` of the addon) against what the graph's programs make of it.
 */
import { describe, expect, it } from 'vitest';
import { presets, type VlmoConfig } from '../../src/architecture/config.ts';
import {
  crossEntropy,
  fixed,
  Graph,
  type Instruction,
  type Lowered,
  linear,
  lower,
  perRun,
  tanh,
  trainingSequence,
} from '../../src/graph/index.ts';
import { costRules } from '../../src/graph/ops/index.ts';
import type { Operand } from '../../src/graph/value.ts';
import { contrastiveFunction, fusedFunction, textMlmFunction } from '../../src/model/objectives.ts';
import { addon } from '../../src/runtime/addon.ts';

const native = new Map(
  addon()
    .ops()
    .map((op) => [op.name, op]),
);
/** Ops that only rename memory: they are no kernel calls. */
const views = ['concat_rows', 'reshape'];
const graphOps = Object.keys(costRules).filter((op) => !views.includes(op));

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
    ];
  });
  return [...objectives, readTwice()];
}

const calls = new Map<string, Instruction[]>();
for (const { instructions } of programs()) {
  for (const call of instructions) {
    const name = `${call.op}.${call.direction}`;
    calls.set(name, [...(calls.get(name) ?? []), call]);
  }
}

/** The native key for one of an expert's: `fc1_0` -> `fc1_#`. */
const pattern = (key: string): string => key.replace(/(?<=_)\d$/, '#');

/** Keys of the operands that `wanted` picks, over all calls. */
function operandKeys(name: string, wanted: (operand: Operand) => boolean): readonly string[] {
  const keys = new Set<string>();
  for (const { operands } of calls.get(name) ?? []) {
    for (const [key, operand] of Object.entries(operands)) {
      if (operand !== undefined && wanted(operand)) keys.add(pattern(key));
    }
  }
  return [...keys];
}

function resultKeys(name: string): readonly string[] {
  return [...new Set((calls.get(name) ?? []).flatMap(({ results }) => Object.keys(results)))];
}

describe('ops of both languages', () => {
  it('have the same names', () => {
    const callable = [...native.values()].filter(({ directions }) => directions.length > 0);
    expect(callable.map(({ name }) => name).sort()).toEqual([...graphOps, 'add'].sort());
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

  it.each(graphOps)('%s has the same results', (name) => {
    expect([...resultKeys(`${name}.forward`)].sort()).toEqual([...native.get(name)!.results].sort());
    expect([...resultKeys(`${name}.backward`)].sort()).toEqual([...native.get(name)!.backwardResults].sort());
  });

  it.each(graphOps)('%s reads the same activations', (name) => {
    const { rows } = native.get(name)!;
    const activations = operandKeys(`${name}.forward`, ({ kind }) => kind === 'activation');
    const float = operandKeys(
      `${name}.forward`,
      (operand) => operand.kind === 'activation' || (operand.kind === 'input' && operand.dtype === 'f32'),
    );
    expect(rows).toEqual(expect.arrayContaining([...activations]));
    expect(float).toEqual(expect.arrayContaining([...rows]));
  });

  it.each(graphOps)('%s multiplies by parameters with two dimensions or more', (name) => {
    const { matrices } = native.get(name)!;
    const parameters = operandKeys(
      `${name}.forward`,
      (operand) => operand.kind === 'parameter' && operand.shape.length > 1,
    );
    expect(parameters).toEqual(expect.arrayContaining([...matrices]));
  });

  it('keeps in 8 bits the matrices of blocks alone', () => {
    const int8 = [...native.values()].filter(({ int8Matrices }) => int8Matrices);
    expect(int8.map(({ name }) => name).sort()).toEqual(['expert_ffn', 'proj_residual', 'qkv']);
    for (const { matrices } of int8) expect(matrices).not.toEqual([]);
  });
});
