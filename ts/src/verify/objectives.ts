/**
 * Losses, gradients and training steps of a reference case.
 */
import { z } from 'zod';
import type { VlmoConfig } from '../architecture/config.ts';
import { parameterShapes } from '../architecture/parameters.ts';
import { type Batch, type KeptRows, keepRows } from '../model/batch.ts';
import type { Reader, TrainingArguments } from '../model/contract.ts';
import {
  contrastiveFunction,
  fusedFunction,
  type Objective,
  objectiveNames,
  parametersWithGradient,
  type TrainingFunction,
  textMlmFunction,
} from '../model/objectives.ts';
import type { Program } from '../runtime/engine.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import { learningRateAt, parameterGroups } from '../train/schedule.ts';
import type { CaseTensors } from './case-files.ts';
import { type Check, compare } from './compare.ts';
import { bounds, type ModelCase, nlvr2Pairs, readTexts, twoPictures } from './model-case.ts';

/** A compiled objective and everything a run of it needs. */
interface Task {
  readonly training: TrainingFunction;
  readonly program: Program<TrainingArguments>;
  readonly args: TrainingArguments;
}

const options = { pixels: 'f32' } as const;

/** Objectives that reference cases hold numbers of. Those of `mim` were made by `scripts/reference/mim.py` and are held to in its test. */
export type CaseObjective = Exclude<Objective, 'mim'>;
export const caseObjectives = objectiveNames.filter((name): name is CaseObjective => name !== 'mim');

function keeping<R extends Reader>(layout: Batch, { dims, inputs }: KeptRows<R>) {
  return { dims: { ...layout.dims, ...dims }, inputs: { ...layout.inputs, ...inputs } };
}

async function task(model: ModelCase, objective: CaseObjective): Promise<Task> {
  const { batch, texts, inputs } = model;
  const compiled = (
    training: TrainingFunction,
    layout: TrainingArguments,
    dims: Partial<TrainingArguments['dims']>,
    own: Partial<TrainingArguments['inputs']>,
  ): Task => ({
    training,
    program: model.engine.createProgram<TrainingArguments>(model.weights, training.lowered.text),
    args: { dims: { ...layout.dims, ...dims }, inputs: { ...layout.inputs, pixels: model.pixels, ...own } },
  });
  const pairs = texts.map((text, picture) => ({ text, picture }));
  switch (objective) {
    case 'itc':
    case 'irtr': {
      const layout = model.layout({ texts, images: texts.map((_, picture) => ({ picture })) });
      const training = contrastiveFunction(model.config, objective, options);
      return compiled(training, layout, { pairs: batch }, {});
    }
    case 'itm': {
      const image = await inputs.integers('itm_negative_image');
      const text = await inputs.integers('itm_negative_text');
      const layout = model.layout({
        pairs: [
          ...pairs,
          ...pairs.map((pair, i) => ({ ...pair, picture: image[i]! })),
          ...pairs.map((pair, i) => ({ ...pair, text: texts[text[i]!]! })),
        ],
      });
      const labels = Int32Array.from({ length: 3 * batch }, (_, i) => (i < batch ? 1 : 0));
      const training = fusedFunction(model.config, ['itm'], options);
      return compiled(
        training,
        keeping(layout, keepRows({ pairs: { itm: layout.pairTextCls } })),
        { itm_rows: 3 * batch },
        { itm_labels: labels },
      );
    }
    case 'mlm':
    case 'textmlm': {
      const masked = await readTexts(inputs, 'text_ids_mlm', batch);
      const all = await inputs.integers('text_labels_mlm');
      const length = all.length / batch;
      const layout = model.layout(
        objective === 'mlm' ? { pairs: masked.map((text, picture) => ({ text, picture })) } : { texts: masked },
      );
      const cls = objective === 'mlm' ? layout.pairTextCls : layout.textCls;
      const rows: number[] = [];
      const labels: number[] = [];
      for (const [i, text] of masked.entries()) {
        for (let token = 0; token < text.length; token++) {
          rows.push(cls[i]! + token);
          labels.push(all[i * length + token]!);
        }
      }
      const training =
        objective === 'mlm' ? fusedFunction(model.config, ['mlm'], options) : textMlmFunction(model.config, options);
      const readers = { mlm: Int32Array.from(rows) };
      return compiled(
        training,
        keeping(layout, keepRows<'mlm', 'mlm'>(objective === 'mlm' ? { pairs: readers } : { texts: readers })),
        { mlm_rows: rows.length },
        { mlm_labels: Int32Array.from(labels) },
      );
    }
    case 'vqa': {
      const layout = model.layout({ pairs });
      const training = fusedFunction(model.config, ['vqa'], options);
      return compiled(
        training,
        keeping(layout, keepRows({ pairs: { vqa: layout.pairTextCls } })),
        { vqa_rows: batch },
        { vqa_targets: await inputs.floats('vqa_targets') },
      );
    }
    case 'nlvr2': {
      const layout = model.layout({ pairs: nlvr2Pairs(texts) }, 2 * batch);
      const training = fusedFunction(model.config, ['nlvr2'], options);
      return compiled(
        training,
        keeping(layout, keepRows({ pairs: { nlvr2: layout.pairTextCls } })),
        { nlvr2_rows: 2 * batch, statements: batch },
        {
          nlvr2_labels: await inputs.integers('nlvr2_labels'),
          pixels: await twoPictures(model),
        },
      );
    }
  }
}

/** Runs forward and backward; the loss. Gradients accumulate in the weights. */
async function runTask({ training, program, args }: Task, signal: AbortSignal | undefined): Promise<number> {
  const outputs = await program.run(args, signal);
  return training.losses.reduce((sum, { output, weight }) => sum + weight * outputs[output]![0]!, 0);
}

/** Names a case may have in `grads.safetensors`. */
export function gradientNames(config: VlmoConfig): string[] {
  const names = [...parameterShapes(config).keys()];
  return caseObjectives.flatMap((objective) => names.map((name) => `${objective}/${name}`));
}

/** Names a case may have in `training.safetensors`. */
export function trainingNames(config: VlmoConfig): string[] {
  return ['losses', 'learning_rates', ...[...parameterShapes(config).keys()].map((name) => `final/${name}`)];
}

/** Losses and, where the case has them, gradients of every objective. */
export async function checkObjectives(
  model: ModelCase,
  outputs: CaseTensors,
  gradients: CaseTensors | undefined,
): Promise<Check[]> {
  const checks: Check[] = [];
  for (const objective of caseObjectives) {
    const hasLoss = outputs.has(`loss/${objective}`);
    const hasGradients =
      gradients !== undefined && [...gradients.entries.keys()].some((name) => name.startsWith(`${objective}/`));
    if (!hasLoss && !hasGradients) continue;
    await model.weights.zeroGradients();
    const compiled = await task(model, objective);
    const loss = await runTask(compiled, model.signal);
    compiled.program.dispose();
    if (hasLoss)
      checks.push(
        compare(`loss/${objective}`, 'loss', [loss], await outputs.floats(`loss/${objective}`), model.outputBound),
      );
    if (!hasGradients) continue;
    for (const [name, shape] of parameterShapes(model.config)) {
      requireNotAborted(model.signal, 'verify');
      if (!model.parameters.includes(name)) continue;
      const count = shape.reduce((product, size) => product * size, 1);
      const key = `${objective}/${name}`;
      const expected = gradients.has(key) ? await gradients.floats(key) : new Float32Array(count);
      checks.push(compare(key, 'gradient', await model.weights.readState(name, 'gradient'), expected, bounds.gradient));
    }
  }
  return checks;
}

const trainingSchema = z.object({
  objectives: z.array(z.enum(caseObjectives)),
  steps: z.number().int().positive(),
  learning_rate: z.number(),
  weight_decay: z.number(),
  betas: z.tuple([z.number(), z.number()]),
  eps: z.number(),
  total_steps: z.number().int(),
  warmup_steps: z.number().int(),
  decay_power: z.number(),
  end_lr: z.number(),
});

/** The training steps of the case: losses, rates and the parameters after the last. */
export async function checkTraining(model: ModelCase, settings: unknown, expected: CaseTensors): Promise<Check[]> {
  const parsed = trainingSchema.safeParse(settings);
  check(
    parsed.success,
    'MOME_INVALID_FILE',
    `${expected.path}: expected the settings of its training steps in config.json`,
  );
  const { objectives, steps, weight_decay, betas, eps } = parsed.data;
  const schedule = {
    learningRate: parsed.data.learning_rate,
    totalSteps: parsed.data.total_steps,
    warmupSteps: parsed.data.warmup_steps,
    decay: 'polynomial',
    decayPower: parsed.data.decay_power,
    endLearningRate: parsed.data.end_lr,
  } as const;
  const names = model.parameters;
  const tasks = await Promise.all(objectives.map((objective) => task(model, objective)));
  const trained = new Set(tasks.flatMap(({ training, args }) => [...parametersWithGradient(training, args.dims)]));
  const groups = parameterGroups(trained, weight_decay);
  const losses: number[] = [];
  const rates: number[] = [];
  for (let step = 0; step < steps; step++) {
    await model.weights.zeroGradients();
    let loss = 0;
    for (const each of tasks) loss += await runTask(each, model.signal);
    losses.push(loss);
    rates.push(learningRateAt(schedule, step));
    await model.weights.adamw({
      step: step + 1,
      learningRate: rates[step]!,
      beta1: betas[0],
      beta2: betas[1],
      eps,
      gradientScale: 1,
      groups,
    });
  }
  for (const { program } of tasks) program.dispose();
  const checks = [
    compare('training/losses', 'training', losses, await expected.floats('losses'), bounds.training),
    compare('training/learning_rates', 'training', rates, await expected.floats('learning_rates'), bounds.exact),
  ];
  for (const name of names) {
    const key = `final/${name}`;
    if (!expected.has(key)) continue;
    const values = [await model.weights.read(name), await expected.floats(key)] as const;
    // A parameter without a gradient is left as it is, to the last bit.
    const [bound, measure] = trained.has(name) ? ([bounds.training, 'relL2'] as const) : ([0, 'maxAbs'] as const);
    checks.push(compare(`training/${key}`, 'training', ...values, bound, measure));
  }
  return checks;
}
