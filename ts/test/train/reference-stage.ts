/**
 * A recorded stage of training: its batches, all that chance decided in it, and the numbers that PyTorch came to
 * (`scripts/reference/record.py`). Draws are given to a trainer through {@link given}, which the mocks of a test read.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { configFromArch, type VlmoConfig } from '../../src/architecture/config.ts';
import { parameterShapes } from '../../src/architecture/parameters.ts';
import type { StepContext, StepProgram } from '../../src/train/objectives/step.ts';
import { createRandom, type Random } from '../../src/train/random.ts';
import type { StepMetrics, Trainer, TrainerOptions, TrainingBatch } from '../../src/train/trainer.ts';
import { CaseTensors, readCaseConfig } from '../../src/verify/case-files.ts';
import { type Check, compare } from '../../src/verify/compare.ts';

const folder = fileURLToPath(new URL('reference', import.meta.url));
export type Positions = 'relative' | 'absolute';
export const weightsOf = (positions: Positions): string => join(folder, positions, 'weights.safetensors');

/** Relative L2 errors, some ten times what is seen: 3e-7, 3e-6 and 2e-6 on AVX-512, AVX2 and the scalar kernels. */
export const bounds = { loss: 2e-6, gradient: 2e-5, training: 1e-5, rate: 1e-6 } as const;

/** Settings of a stage as `record.py` writes them. */
export interface StageSettings {
  readonly objectives: TrainerOptions['objectives'];
  readonly trainable?: readonly string[];
  readonly steps: number;
  readonly drop_path: number;
  readonly text_dropout: number;
  readonly head_rate: number;
  readonly learning_rate: number;
  readonly warmup_steps: number;
  readonly total_steps: number;
  readonly weight_decay: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
}

export const vocabulary = {
  vocabularySize: 60,
  maskId: 4,
  isSpecial: (id: number) => id < 5,
  isContinuation: (id: number) => id >= 50,
};

/** Numbers of a file that a test may change before it runs. */
type Tensors = Map<string, { readonly shape: readonly number[]; readonly values: Float32Array | Int32Array }>;

async function readAll(path: string): Promise<Tensors> {
  const file = await CaseTensors.open(path);
  const tensors: Tensors = new Map();
  for (const [name, { dtype, shape }] of file.entries)
    tensors.set(name, { shape, values: dtype === 'F32' ? await file.floats(name) : await file.integers(name) });
  return tensors;
}

/** The pass of the encoder that a program runs, by its first objective. */
const passes = {
  itc: 'contrastive',
  irtr: 'contrastive',
  itm: 'fused',
  mlm: 'fused',
  vqa: 'fused',
  nlvr2: 'statements',
  textmlm: 'text',
} as const;
type Pass = (typeof passes)[keyof typeof passes];

export class ReferenceStage {
  readonly name: string;
  readonly config: VlmoConfig;
  readonly settings: StageSettings;
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly inputs: Tensors;
  /** Draws and results. */
  readonly recorded: Tensors;
  /** The parameters as the stage begins, beside which those without a gradient are held after it. */
  readonly untouched: Map<string, Float32Array>;
  /** The step whose draws are given, and how many texts of it were masked. */
  #step = 0;
  #masked = 0;

  private constructor(
    name: string,
    parts: Pick<ReferenceStage, 'config' | 'settings' | 'parameters' | 'inputs' | 'recorded'>,
  ) {
    this.name = name;
    this.config = parts.config;
    this.settings = parts.settings;
    this.parameters = parts.parameters;
    this.inputs = parts.inputs;
    this.recorded = parts.recorded;
    this.untouched = new Map(parts.parameters);
  }

  static async open(positions: Positions, stage: string): Promise<ReferenceStage> {
    const { arch, stages } = await readCaseConfig(join(folder, positions));
    const weights = await readAll(weightsOf(positions));
    return new ReferenceStage(`${positions} ${stage}`, {
      config: configFromArch(arch),
      settings: (stages as Record<string, StageSettings>)[stage]!,
      parameters: new Map([...weights].map(([name, { values }]) => [name, values as Float32Array])),
      inputs: await readAll(join(folder, 'inputs.safetensors')),
      recorded: await readAll(join(folder, positions, `${stage}.safetensors`)),
    });
  }

  /** The recorded numbers of a name. */
  values(name: string): Float32Array | Int32Array {
    const tensor = this.recorded.get(name);
    if (!tensor) throw new Error(`${this.name}: expected ${name}, got none`);
    return tensor.values;
  }

  get trainerOptions(): TrainerOptions {
    const { settings } = this;
    const { trainable } = settings;
    return {
      objectives: settings.objectives,
      schedule: {
        learningRate: settings.learning_rate,
        totalSteps: settings.total_steps,
        warmupSteps: settings.warmup_steps,
        decay: 'polynomial',
      },
      betas: settings.betas,
      eps: settings.eps,
      weightDecay: settings.weight_decay,
      headRate: settings.head_rate,
      maxLogitScale: Number.POSITIVE_INFINITY,
      dropPath: settings.drop_path,
      textDropout: settings.text_dropout,
      dropExpertsApart: true,
      ...(trainable && { trainable: (name: string) => trainable.some((part) => name.includes(part)) }),
    };
  }

  /** The batch of a step, which becomes the one whose draws are given. */
  batch(step: number): TrainingBatch {
    this.#step = step;
    this.#masked = 0;
    const bytes = this.#ofStep(this.inputs.get('bytes')!);
    const targets = this.#ofStep(this.inputs.get('vqa_targets')!);
    const texts = this.#texts(this.#ofStep(this.inputs.get('text_ids')!));
    const pictureBytes = bytes.length / (2 * texts.length);
    const two = this.settings.objectives.includes('nlvr2');
    const shown = this.settings.objectives.some((objective) => objective !== 'textmlm');
    const pictures = texts.flatMap((_, i) => (two ? [2 * i, 2 * i + 1] : [2 * i]));
    const answers = texts.map((_, i) => {
      const scores = [...targets.subarray(i * this.config.answers, (i + 1) * this.config.answers)];
      const labels = scores.flatMap((score, label) => (score > 0 ? [label] : []));
      return { labels, scores: labels.map((label) => scores[label]!) };
    });
    return {
      texts,
      answers,
      truth: Int32Array.from(this.#ofStep(this.inputs.get('truth')!)),
      ...(shown && {
        bytes: Uint8Array.from(
          pictures.flatMap((picture) => [...bytes.subarray(picture * pictureBytes, (picture + 1) * pictureBytes)]),
        ),
      }),
    };
  }

  /** The masked form of the next text of the step. */
  nextMasked(ids: Int32Array): { ids: Int32Array; positions: Int32Array; labels: Int32Array } {
    const length = this.config.maxTextLength;
    const row = <T extends Float32Array | Int32Array>(name: string) =>
      this.#drawn(name).subarray(this.#masked * length, this.#masked * length + ids.length) as T;
    const [masked, labels] = [row<Int32Array>('masked_ids'), row<Int32Array>('mlm_labels')];
    const positions = Int32Array.from([...labels.keys()].filter((place) => labels[place]! >= 0));
    this.#masked++;
    return { ids: masked.slice(), positions, labels: positions.map((place) => labels[place]!) };
  }

  /** A program that takes its draws from this stage. */
  withDraws(program: StepProgram): StepProgram {
    const first = program.functions.flatMap(({ losses }) => losses)[0]!;
    const pass = passes[first.objective as keyof typeof passes];
    return {
      ...program,
      run: async (context) => {
        const random = this.#scripted(pass);
        const own = Object.assign(Object.create(context) as StepContext, { random });
        await program.run(own);
        random.requireUsedUp();
        if (own.negatives)
          context.negatives = {
            image: Int32Array.from(this.#drawn('negative_image')),
            text: Int32Array.from(this.#drawn('negative_text')),
          };
      },
    };
  }

  /** A generator that gives the recorded branches and seeds of a pass, in the order in which a trainer asks for them. */
  #scripted(pass: Pass): Random & { requireUsedUp(): void } {
    const { drop_path: highest, text_dropout: dropout } = this.settings;
    const bits = highest > 0 ? [...this.#keptBranches(pass)] : [];
    const seeds = dropout > 0 ? [this.#drawn(`seed/${pass}`)[0]!] : [];
    const name = `${this.name}, ${pass}`;
    return Object.assign(createRandom(0), {
      chance: (probability: number) => {
        const next = bits.shift();
        if (!next || Math.abs(next.probability - probability) > 1e-12)
          throw new Error(`${name}: expected to draw with ${next?.probability}, got ${probability}`);
        return next.kept;
      },
      integer: () => {
        const seed = seeds.shift();
        if (seed === undefined) throw new Error(`${name}: expected no further seed`);
        return seed;
      },
      requireUsedUp: () => {
        if (bits.length + seeds.length > 0) throw new Error(`${name}: ${bits.length + seeds.length} draws were left`);
      },
    });
  }

  *#keptBranches(pass: Pass): Iterable<{ readonly kept: boolean; readonly probability: number }> {
    const { layers, firstVlLayer } = this.config;
    const texts = this.inputs.get('text_ids')!.shape[1]!;
    const apart = pass === 'fused' || pass === 'statements';
    for (const [name, first] of [
      [pass, 0],
      [`${pass}_branch`, firstVlLayer],
    ] as const) {
      const tensor = this.recorded.get(`draw/keep/${name}`);
      if (!tensor) continue;
      const [, , parts, sequences] = tensor.shape as [number, number, number, number];
      const values = this.#drawn(`keep/${name}`);
      for (let layer = first; layer < layers; layer++) {
        const probability = 1 - (this.settings.drop_path * layer) / (layers - 1);
        const at = (part: number, s: number) => ({
          kept: values[((layer - first) * parts + part) * sequences + s] === 1,
          probability,
        });
        for (let s = 0; s < sequences; s++) yield at(0, s);
        for (let s = 0; s < sequences; s++) {
          const picture = pass === 'contrastive' && first === 0 && s >= texts;
          yield at(picture ? 2 : 1, s);
          if (apart && layer < firstVlLayer) yield at(2, s);
        }
      }
    }
  }

  #drawn(name: string): Float32Array | Int32Array {
    const tensor = this.recorded.get(`draw/${name}`);
    if (!tensor) throw new Error(`${this.name}: expected draws of ${name}, got none`);
    return this.#ofStep(tensor);
  }

  #ofStep({ shape, values }: { readonly shape: readonly number[]; readonly values: Float32Array | Int32Array }) {
    const size = values.length / shape[0]!;
    return values.subarray(this.#step * size, (this.#step + 1) * size);
  }

  #texts(ids: Float32Array | Int32Array): Int32Array[] {
    const length = this.config.maxTextLength;
    return Array.from({ length: ids.length / length }, (_, i) => {
      const text = Int32Array.from(ids.subarray(i * length, (i + 1) * length));
      return text.slice(0, text.indexOf(3) + 1);
    });
  }
}

/** The stage whose draws the mocked modules give. */
export const given: { stage: ReferenceStage | undefined } = { stage: undefined };

/** Losses, rates and parameters of a training beside the recorded ones. */
export function checksOfRun(
  stage: ReferenceStage,
  metrics: readonly StepMetrics[],
  trained: ReadonlyMap<string, Float32Array>,
): Check[] {
  const checks: Check[] = [];
  const rates = metrics.map(({ learningRate }) => learningRate);
  checks.push(compare('learning_rates', 'training', rates, stage.values('learning_rates'), bounds.rate));
  for (const objective of stage.settings.objectives) {
    const losses = metrics.map((each) => each.losses[objective]!);
    const expected = stage.values(`losses/${objective}`);
    checks.push(compare(`first loss/${objective}`, 'loss', losses.slice(0, 1), expected.slice(0, 1), bounds.loss));
    checks.push(compare(`losses/${objective}`, 'training', losses, expected, bounds.training));
  }
  for (const name of parameterShapes(stage.config).keys()) {
    const final = stage.recorded.get(`final/${name}`);
    const [expected, bound] = final ? [final.values, bounds.training] : [stage.untouched.get(name)!, 0];
    const measure = final ? 'relL2' : 'maxAbs';
    checks.push(compare(`final/${name}`, 'training', trained.get(name)!, expected, bound, measure));
  }
  return checks;
}

/** Gradients of a trainer after a step beside the recorded ones; a parameter that has none there has zeros here. */
export async function checksOfGradients(stage: ReferenceStage, trainer: Trainer): Promise<Check[]> {
  const checks: Check[] = [];
  for (const name of parameterShapes(stage.config).keys()) {
    const values = await trainer.weights.readState(name, 'gradient');
    const expected = stage.recorded.get(`gradient/${name}`)?.values ?? new Float32Array(values.length);
    checks.push(compare(`gradient/${name}`, 'gradient', values, expected, bounds.gradient));
  }
  return checks;
}
