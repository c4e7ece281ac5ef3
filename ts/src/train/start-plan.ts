/** What a run does with each part of its model: said before it starts, so that a wrong checkpoint or pattern is seen at once. */
import type { VlmoConfig } from '../architecture/config.ts';
import { parameterShapes } from '../architecture/parameters.ts';
import { type Checkpoint, takeParameters } from '../checkpoint/index.ts';
import { programsOf } from './objectives/programs.ts';
import type { SamplingOptions } from './objectives/step.ts';

/** Parameters of one part that are treated alike. */
export interface StartRow {
  readonly part: string;
  /** `trained`: some objective has a gradient for them; `frozen`: kept from learning; `unread`: no objective reads them. */
  readonly learning: 'trained' | 'frozen' | 'unread';
  /** Where their values come from. */
  readonly from: 'checkpoint' | 'fresh';
  readonly tensors: number;
  readonly values: number;
}

/** The start of a run. */
export interface StartPlan {
  readonly rows: readonly StartRow[];
  /** Tensors of the checkpoint that the model does not have. */
  readonly dropped: readonly string[];
  /** What was changed on the way from the checkpoint, such as positions taken to another size. */
  readonly notes: readonly string[];
  /** Parameters that are neither in the checkpoint nor trained: they stay random. */
  readonly untrained: ReadonlySet<string>;
}

/** Parts of a model by the names of their parameters; the first that fits. */
const parts: readonly (readonly [RegExp, string])[] = [
  [/^text_embeddings\./, 'text embeddings'],
  [/^token_type_embeddings\./, 'type embeddings'],
  [/patch_embed|cls_token|mask_token/, 'picture embeddings'],
  [/pos_embed|relative_position_bias_table/, 'positions'],
  [/\.(?:attn|norm1|gamma_[12])/, 'attention'],
  [/\.(?:mlp|norm2)_text\./, 'text experts'],
  [/\.(?:mlp|norm2)_imag\./, 'image experts'],
  [/\.(?:mlp|norm2)_vl\./, 'vision-language experts'],
  [/\.(?:mlp|norm2)_shared\./, 'shared feed-forward layers'],
  [/^transformer\.norm\./, 'final norm'],
  [/^logit_|^itc_/, 'contrastive heads'],
  [/^pooler\./, 'pooler'],
];

function partOf(name: string): string {
  const known = parts.find(([pattern]) => pattern.test(name));
  return known ? known[1] : `head ${name.split('.')[0]}`;
}

/** A phase as the plan sees it. */
export interface PlannedPhase {
  readonly options: SamplingOptions;
  readonly trainable: ((parameter: string) => boolean) | undefined;
}

/**
 * @param phases of the run: a parameter is trained that any of them trains
 * @param checkpoint the weights that the run starts from
 */
export async function startPlan(
  config: VlmoConfig,
  phases: readonly PlannedPhase[],
  checkpoint?: Checkpoint,
): Promise<StartPlan> {
  const read = new Set<string>();
  const trained = new Set<string>();
  for (const { options, trainable } of phases) {
    const vocabulary = { vocabularySize: 1, maskId: 0, isSpecial: () => true, isContinuation: () => false };
    for (const { functions } of programsOf({ config, vocabulary, options, trainable: undefined }))
      for (const { parameter } of functions.flatMap(({ gradients }) => gradients)) {
        read.add(parameter.name);
        if (trainable?.(parameter.name) ?? true) trained.add(parameter.name);
      }
  }
  const taken = checkpoint && (await takeParameters(checkpoint, config));
  const untrained = new Set<string>();
  const rows = new Map<string, { -readonly [K in keyof StartRow]: StartRow[K] }>();
  for (const [name, shape] of parameterShapes(config)) {
    const learning = trained.has(name) ? 'trained' : read.has(name) ? 'frozen' : 'unread';
    const from = taken?.sources.has(name) ? 'checkpoint' : 'fresh';
    if (learning !== 'trained' && from === 'fresh') untrained.add(name);
    const part = partOf(name);
    const key = `${part}/${learning}/${from}`;
    const row = rows.get(key) ?? { part, learning, from, tensors: 0, values: 0 };
    row.tensors++;
    row.values += shape.reduce((product, size) => product * size, 1);
    rows.set(key, row);
  }
  return { rows: [...rows.values()], dropped: taken?.unexpected ?? [], notes: taken?.notes ?? [], untrained };
}
