/**
 * Lowering: plans memory by liveness and writes the program text that the native executor runs.
 *
 * A program is a list of kernel calls over values whose sizes are products of numbers and per-run dimensions. The planner says
 * when each value lives and which values share memory; the executor turns that into offsets once the dimensions are bound.
 */
import { check, MomeError } from '../runtime/errors.ts';
import type { Sequence } from './gradient.ts';
import type { Graph } from './graph.ts';
import type { Attribute, Instruction, View } from './ops/op.ts';
import type { Activation, Dim, Operand } from './value.ts';

/** A lowered graph, as `NativeProgram` takes it. */
export interface Lowered {
  readonly text: string;
  /** Per-run dimensions, in the order of the program's `dims` line. */
  readonly dims: readonly string[];
  /** Per-run scalars. */
  readonly scalars: readonly string[];
  /** The per-run dimension that counts the rows of each output that has one. */
  readonly outputRows: Readonly<Record<string, string>>;
  readonly instructions: readonly Instruction[];
}

/**
 * Lowers the kernel calls of `sequence`; `graph` supplies inputs, parameters and outputs. Forward instructions whose results
 * reach no output and no later instruction are left out.
 */
export function lower(graph: Graph, sequence: Sequence): Lowered {
  const plan = new MemoryPlan(graph, sequence);
  const lines: string[] = [];
  const dims = new Set<string>();
  const scalars = new Set<string>();
  const dim = (d: Dim): string => {
    if (d.size !== undefined) return String(d.size);
    dims.add(d.name);
    return d.name;
  };
  const shape = (s: readonly Dim[]): string => (s.length === 0 ? '1' : s.map(dim).join('*'));
  const attribute = (value: Attribute): string => {
    if (typeof value === 'number') return String(value);
    if (typeof value === 'boolean') return value ? '1' : '0';
    if ('scalar' in value) {
      scalars.add(value.scalar);
      return `#${value.scalar}`;
    }
    return dim(value);
  };

  const used = usedOperands(plan.instructions);
  for (const input of graph.inputs.values()) {
    if (used.has(`$${input.name}`)) lines.push(`input ${input.name} ${input.dtype} ${shape(input.shape)}`);
  }
  for (const parameter of graph.parameters.values()) {
    if (used.has(`@${parameter.name}`)) lines.push(`param ${parameter.name} ${shape(parameter.shape)}`);
  }
  for (const buffer of plan.buffers()) {
    const head = `buffer ${buffer.value.id} f32 ${shape(buffer.value.shape)}`;
    if (buffer.kind === 'own') lines.push(`${head} live ${buffer.first} ${buffer.last}`);
    else if (buffer.begin === undefined) lines.push(`${head} alias ${buffer.of.id}`);
    else
      lines.push(`${head} rows ${buffer.of.id} ${typeof buffer.begin === 'number' ? buffer.begin : dim(buffer.begin)}`);
  }
  for (const [name, value] of graph.outputs) lines.push(`output ${name} ${value.id}`);
  for (const { op, direction, operands, results, attributes } of plan.instructions) {
    const fields: string[] = [];
    for (const [key, operand] of Object.entries(operands)) {
      if (operand !== undefined && key !== 'pending') fields.push(`${key}=${reference(operand)}`);
    }
    for (const [key, result] of Object.entries(results)) {
      if (plan.isRead(result)) fields.push(`${key}=%${result.id}`);
    }
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== undefined) fields.push(`${key}=${attribute(value)}`);
    }
    lines.push(`op ${op}.${direction} ${fields.join(' ')}`);
  }
  const outputRows: Record<string, string> = {};
  for (const [name, { shape: sizes }] of graph.outputs) {
    const first = sizes[0];
    if (first !== undefined && first.size === undefined) outputRows[name] = dim(first);
  }
  const text = ['mome-program 1', `dims ${[...dims].join(' ')}`.trimEnd(), ...lines, ''].join('\n');
  return { text, dims: [...dims], scalars: [...scalars], outputRows, instructions: plan.instructions };
}

/** An operand as programs write it (`native/core/program.h`). */
export function reference(operand: Operand): string {
  switch (operand.kind) {
    case 'activation':
      return `%${operand.id}`;
    case 'input':
      return `$${operand.name}`;
    case 'parameter':
      return `@${operand.name}`;
    case 'gradient':
      return `^${operand.parameter.name}`;
    default:
      return operand satisfies never;
  }
}

function usedOperands(instructions: readonly Instruction[]): ReadonlySet<string> {
  const used = new Set<string>();
  for (const { operands } of instructions) {
    for (const operand of Object.values(operands)) {
      if (operand === undefined) continue;
      used.add(operand.kind === 'gradient' ? `@${operand.parameter.name}` : reference(operand));
    }
  }
  return used;
}

/** One arena value: memory of its own with a lifetime, or a share of another's. */
type Buffer =
  | { readonly kind: 'own'; readonly value: Activation; readonly first: number; readonly last: number }
  | {
      readonly kind: 'shared';
      readonly value: Activation;
      readonly of: Activation;
      readonly begin: Dim | number | undefined;
    };

/** Which values share memory, and from which instruction to which each piece of memory is in use. */
class MemoryPlan {
  readonly instructions: readonly Instruction[];
  readonly #values = new Map<number, Activation>();
  readonly #read = new Set<number>();
  readonly #parent = new Map<number, { readonly of: Activation; readonly begin: Dim | number | undefined }>();
  readonly #first = new Map<number, number>();
  readonly #last = new Map<number, number>();

  constructor(graph: Graph, sequence: Sequence) {
    for (const view of sequence.views) this.#share(view);
    this.instructions = this.#withoutUnread(graph, sequence);
    const lastUse = this.#lastUses(graph);
    this.#takeOver(lastUse);
    this.#spans(graph);
  }

  /** Whether a result is read by an instruction or the caller, or must exist anyway. */
  isRead(value: Activation): boolean {
    return this.#read.has(value.id);
  }

  buffers(): readonly Buffer[] {
    const buffers: Buffer[] = [];
    const done = new Set<number>();
    const visit = (value: Activation): void => {
      if (done.has(value.id)) return;
      done.add(value.id);
      const parent = this.#parent.get(value.id);
      if (parent === undefined) {
        const [first, last] = [this.#first.get(value.id), this.#last.get(value.id)];
        if (first === undefined || last === undefined)
          throw new MomeError('MOME_INTERNAL', `lower: value %${value.id} is never written`);
        buffers.push({ kind: 'own', value, first, last });
      } else {
        visit(parent.of);
        buffers.push({ kind: 'shared', value, of: parent.of, begin: parent.begin });
      }
    };
    for (const value of this.#values.values()) visit(value);
    return buffers;
  }

  #share(view: View): void {
    check(
      !this.#parent.has(view.value.id),
      'MOME_INTERNAL',
      `lower: value %${view.value.id} is already a part of another value`,
    );
    this.#parent.set(view.value.id, { of: view.of, begin: view.begin });
  }

  #root(value: Activation): Activation {
    const parent = this.#parent.get(value.id);
    return parent === undefined ? value : this.#root(parent.of);
  }

  /** Whether `value` occupies its memory from the start: nothing on its way to the root is a range of rows. */
  #isWhole(value: Activation): boolean {
    const parent = this.#parent.get(value.id);
    return parent === undefined || (parent.begin === undefined && this.#isWhole(parent.of));
  }

  /** Drops forward instructions nobody reads, last first, and records which results are read. */
  #withoutUnread(graph: Graph, sequence: Sequence): readonly Instruction[] {
    const roots = new Set<number>();
    for (const value of graph.outputs.values()) this.#markRead(value, roots);
    const kept: Instruction[] = [];
    for (const instruction of [...sequence.instructions].reverse()) {
      const results = Object.values(instruction.results);
      const wanted = instruction.direction === 'backward' || results.some((result) => roots.has(this.#root(result).id));
      if (!wanted) continue;
      for (const [key, result] of Object.entries(instruction.results)) {
        if (!instruction.optional?.includes(key)) this.#markRead(result, roots);
      }
      for (const operand of Object.values(instruction.operands)) {
        if (operand?.kind === 'activation') this.#markRead(operand, roots);
      }
      kept.push(instruction);
    }
    return kept.reverse();
  }

  #markRead(value: Activation, roots: Set<number>): void {
    this.#read.add(value.id);
    roots.add(this.#root(value).id);
  }

  #lastUses(graph: Graph): Map<number, number> {
    const lastUse = new Map<number, number>();
    for (const [index, { operands, results }] of this.instructions.entries()) {
      for (const operand of [...Object.values(operands), ...Object.values(results)]) {
        if (operand?.kind === 'activation') lastUse.set(this.#root(operand).id, index);
      }
    }
    for (const value of graph.outputs.values()) lastUse.set(this.#root(value).id, this.instructions.length);
    return lastUse;
  }

  /** Lets a result live where its operand lived, when the kernel allows it and nobody reads the operand later. */
  #takeOver(lastUse: Map<number, number>): void {
    for (const [index, { op, operands, results, inPlace, accumulate }] of this.instructions.entries()) {
      for (const [resultKey, operandKey] of Object.entries({ ...inPlace, ...accumulate })) {
        const result = results[resultKey];
        const operand = operands[operandKey];
        const must = accumulate?.[resultKey] !== undefined;
        const free =
          result !== undefined &&
          operand?.kind === 'activation' &&
          !this.#parent.has(result.id) &&
          (must || this.#isWhole(operand)) &&
          lastUse.get(this.#root(operand).id) === index;
        if (free) {
          this.#parent.set(result.id, { of: operand, begin: undefined });
          const root = this.#root(operand).id;
          lastUse.set(root, Math.max(lastUse.get(result.id) ?? index, index));
        } else {
          check(!must, 'MOME_INTERNAL', `lower: ${op} must add to a gradient that is still read later`);
        }
      }
    }
  }

  #spans(graph: Graph): void {
    const touch = (value: Activation, index: number): void => {
      this.#values.set(value.id, value);
      const root = this.#root(value);
      this.#values.set(root.id, root);
      if (!this.#first.has(root.id)) this.#first.set(root.id, index);
      this.#last.set(root.id, Math.max(index, this.#last.get(root.id) ?? index));
    };
    for (const [index, { operands, results }] of this.instructions.entries()) {
      for (const operand of Object.values(operands)) if (operand?.kind === 'activation') touch(operand, index);
      for (const result of Object.values(results)) if (this.isRead(result)) touch(result, index);
    }
    for (const value of graph.outputs.values()) touch(value, this.instructions.length);
  }
}
