/**
 * The compiled functions of a model, each made when it is first asked for.
 */

import { tokenTypesOf, type VlmoConfig } from '../architecture/config.ts';
import {
  type ArgumentsOf,
  answer,
  embed,
  fillMask,
  type HeadName,
  lowerFunction,
  match,
  mixed,
  type OutputsOf,
  reason,
  together,
} from '../model/functions.ts';
import type { Engine, Program, Weights } from '../runtime/engine.ts';
import { check, MomeError } from '../runtime/errors.ts';

/** A function of the model, ready to run, the op of each of its instructions, and what counts the rows of its outputs. */
export interface Compiled<K extends FunctionName = FunctionName> {
  readonly program: Program<ArgumentsOf<Functions[K]>, OutputsOf<Functions[K]>>;
  readonly ops: readonly string[];
  readonly outputRows: Readonly<Record<string, string>>;
}

const functions = { embed, match, mixed, answer, reason, fillMask } as const;
export type Functions = typeof functions & { readonly together: ReturnType<typeof together> };
export type FunctionName = keyof Functions;

/** The calls whose heads a function reads, in words. */
const headsOf: Readonly<Record<FunctionName, string>> = {
  embed: 'a head for "embed"',
  match: 'a head for "match"',
  mixed: 'heads for "embed" and "match"',
  answer: 'a head for "answer"',
  reason: 'a head for "reason"',
  fillMask: 'a head for "fillMask"',
  together: 'a head',
};

/** Files that have the heads of a function, in words. */
const filesWith: Readonly<Record<FunctionName, string>> = {
  embed: 'a pre-trained file or one tuned for retrieval',
  match: 'a pre-trained file',
  mixed: 'a pre-trained file',
  answer: 'a file tuned for VQA',
  reason: 'a file tuned for NLVR2',
  fillMask: 'a pre-trained file',
  together: 'a pre-trained file',
};

export class Programs {
  readonly #engine: Engine;
  readonly #weights: Weights;
  readonly #config: VlmoConfig;
  readonly #functions: Functions;
  readonly #known = new Map<FunctionName, Compiled>();

  /** @param heads those that the model has */
  constructor(engine: Engine, weights: Weights, config: VlmoConfig, heads: ReadonlySet<HeadName>) {
    this.#engine = engine;
    this.#weights = weights;
    this.#config = config;
    this.#functions = { ...functions, together: together(heads) };
  }

  /** @throws MomeError `MOME_UNSUPPORTED` when the model lacks the head */
  get<K extends FunctionName>(name: K): Compiled<K> {
    const known = this.#known.get(name) as Compiled<K> | undefined;
    if (known) return known;
    const compiled = this.#compile(name);
    this.#known.set(name, compiled as Compiled);
    // From here on matrices are read packed. Runs queue behind this; a failure of memory shows in the first of them.
    compiled.program.releasePlain().catch(() => {});
    return compiled;
  }

  dispose(): void {
    for (const { program } of this.#known.values()) program.dispose();
  }

  #compile<K extends FunctionName>(name: K): Compiled<K> {
    check(
      name !== 'reason' || tokenTypesOf(this.#config) === 3,
      'MOME_UNSUPPORTED',
      `vlmo: expected a model with a head for "reason" and a third token type, such as ${filesWith.reason}, this one has neither`,
    );
    try {
      const { text, instructions, outputRows } = lowerFunction(this.#functions[name], this.#config);
      const program = this.#engine.createProgram<ArgumentsOf<Functions[K]>, OutputsOf<Functions[K]>>(
        this.#weights,
        text,
      );
      return { program, ops: instructions.map(({ op }) => op), outputRows };
    } catch (error) {
      if (!(error instanceof MomeError) || error.code !== 'MOME_NOT_FOUND') throw error;
      throw new MomeError(
        'MOME_UNSUPPORTED',
        `vlmo: expected a model with ${headsOf[name]}, such as ${filesWith[name]}, this one lacks ${name === 'mixed' ? 'one of them' : 'it'}`,
        { cause: error },
      );
    }
  }
}
