/** Files as they were released: the names, shapes, buffers and dictionaries of each kind, with values made by a rule. */
import { Called, type Rebuild, Saved, torchSave } from './torch-save.ts';

/** Sizes of a released model; the small ones have the proportions of their namesakes. */
export interface ReleasedArch {
  readonly width: number;
  readonly layers: number;
  readonly heads: number;
  readonly firstVl: number;
  readonly absolute: boolean;
  readonly vocabulary: number;
}

export const releasedArchs = {
  base: { width: 768, layers: 12, heads: 12, firstVl: 10, absolute: false, vocabulary: 30522 },
  base_plus: { width: 544, layers: 24, heads: 16, firstVl: 21, absolute: true, vocabulary: 30522 },
  smallBase: { width: 64, layers: 3, heads: 1, firstVl: 2, absolute: false, vocabulary: 120 },
  smallBasePlus: { width: 68, layers: 4, heads: 2, firstVl: 3, absolute: true, vocabulary: 120 },
  smallLarge: { width: 128, layers: 5, heads: 2, firstVl: 4, absolute: false, vocabulary: 120 },
} as const satisfies Record<string, ReleasedArch>;

export const releasedKinds = {
  'pre-trained': { image: 224, text: 40, types: 2, vl: true, heads: ['mlm', 'itm', 'itc', 'itc_vl'] },
  'text pre-trained': { image: 224, text: 196, types: 2, vl: false, heads: ['mlm'] },
  'COCO retrieval': { image: 384, text: 40, types: 2, vl: true, heads: ['itc'] },
  'F30K retrieval': { image: 384, text: 40, types: 2, vl: true, heads: ['itc'] },
  VQA: { image: 480, text: 40, types: 2, vl: true, heads: ['vqa'] },
  NLVR2: { image: 384, text: 40, types: 3, vl: true, heads: ['nlvr2'] },
} as const;
export type ReleasedKind = keyof typeof releasedKinds;

/** Names and shapes of the parameters of a file, as the original's modules register them. */
export function releasedShapes(arch: ReleasedArch, kind: ReleasedKind): Map<string, readonly number[]> {
  const { width: D, layers, heads, firstVl, absolute, vocabulary: V } = arch;
  const { image, text, types, vl, heads: tasks } = releasedKinds[kind];
  const grid = image / 16;
  const shapes = new Map<string, readonly number[]>();
  const both = (name: string, ...shape: number[]) => {
    shapes.set(`${name}.weight`, shape);
    shapes.set(`${name}.bias`, shape.slice(0, 1));
  };
  if (!absolute) shapes.set('relative_position_bias_table', [(2 * grid - 1) ** 2 + 3 + 2 + 2 * 196, heads * layers]);
  shapes.set('transformer.cls_token', [1, 1, D]);
  if (absolute) shapes.set('transformer.pos_embed', [1, grid * grid + 1, D]);
  both('transformer.patch_embed.proj', D, 3, 16, 16);
  for (let i = 0; i < layers; i++) {
    const block = `transformer.blocks.${i}`;
    if (!absolute) for (const gamma of ['gamma_1', 'gamma_2']) shapes.set(`${block}.${gamma}`, [D]);
    both(`${block}.norm1`, D);
    shapes.set(`${block}.attn.q_bias`, [D]);
    shapes.set(`${block}.attn.v_bias`, [D]);
    shapes.set(`${block}.attn.qkv.weight`, [3 * D, D]);
    both(`${block}.attn.proj`, D, D);
    for (const expert of vl && i >= firstVl ? ['text', 'imag', 'vl'] : ['text', 'imag']) {
      both(`${block}.norm2_${expert}`, D);
      both(`${block}.mlp_${expert}.fc1`, 4 * D, D);
      both(`${block}.mlp_${expert}.fc2`, D, 4 * D);
    }
  }
  both('transformer.norm', D);
  shapes.set('text_embeddings.word_embeddings.weight', [V, D]);
  shapes.set('text_embeddings.position_embeddings.weight', [text, D]);
  shapes.set('text_embeddings.token_type_embeddings.weight', [2, D]);
  both('text_embeddings.LayerNorm', D);
  shapes.set('token_type_embeddings.weight', [types, D]);
  both('pooler.dense', D, D);
  const has = (task: string) => (tasks as readonly string[]).includes(task);
  if (has('mlm')) {
    shapes.set('mlm_score.bias', [V]);
    both('mlm_score.transform.dense', D, D);
    both('mlm_score.transform.LayerNorm', D);
    shapes.set('mlm_score.decoder.weight', [V, D]);
  }
  if (has('itm')) both('itm_score.fc', 2, D);
  for (const [task, part] of [
    ['itc', ''],
    ['itc_vl', 'vl_'],
  ] as const) {
    if (!has(task)) continue;
    shapes.set(`itc_${part}text_proj.fc.weight`, [D, D]);
    shapes.set(`itc_${part}image_proj.fc.weight`, [D, D]);
    shapes.set(`logit_${part}scale`, []);
  }
  for (const [task, inputs, outputs] of [
    ['vqa', D, 3129],
    ['nlvr2', 2 * D, 2],
  ] as const) {
    if (!has(task)) continue;
    both(`${task}_classifier.0`, 2 * D, inputs);
    both(`${task}_classifier.1`, 2 * D);
    both(`${task}_classifier.3`, outputs, 2 * D);
  }
  return shapes;
}

/** Buffers of a file: positions of the text, and, with relative positions, the index of the table. */
function buffersOf(arch: ReleasedArch, kind: ReleasedKind): [string, Saved][] {
  const { image, text } = releasedKinds[kind];
  const tokens = 1 + (image / 16) ** 2;
  const zeros = (storage: string, size: number, ...shape: number[]): Saved =>
    new Saved(storage, shape, new Uint8Array(size * shape.reduce((product, each) => product * each, 1)));
  const list: [string, Saved][] = [['text_embeddings.position_ids', zeros('LongStorage', 8, 1, text)]];
  if (arch.absolute) return list;
  list.push(['relative_position_index', zeros('LongStorage', 8, tokens, tokens)]);
  list.push(['text_relative_position_index', zeros('LongStorage', 8, text, text)]);
  list.push(['text_imag_relative_position_index', zeros('FloatStorage', 4, text + tokens, text + tokens)]);
  return list;
}

const patternLength = 2 ** 16;

/** Value `i` of a parameter: the norms keep rows as they are, all else is small. */
function ruleOf(name: string, i: number): number {
  if (name.startsWith('logit_')) return 2.65625;
  if (/gamma_[12]$/.test(name)) return 0.125;
  if (/(?:[nN]orm\w*|classifier\.1)\.weight$/.test(name)) return 1;
  if (name.endsWith('bias')) return 0;
  const hash = Math.imul((i % patternLength) + 1 + 31 * name.length, 2654435761) >>> 0;
  return ((hash >>> 16) % 129) / 1024 - 0.0625;
}

function savedOf(name: string, shape: readonly number[], half: boolean, rebuild: Rebuild): Saved {
  const count = shape.reduce((product, size) => product * size, 1);
  const part = Math.min(count, patternLength);
  const floats = Float32Array.from({ length: part }, (_, i) => ruleOf(name, i));
  const block = new Uint8Array(half ? Uint16Array.from(floats, toHalf).buffer : floats.buffer);
  const size = half ? 2 : 4;
  const pieces = function* () {
    for (let done = 0; done < count; done += part) yield block.subarray(0, size * Math.min(part, count - done));
  };
  return new Saved(half ? 'HalfStorage' : 'FloatStorage', shape, { bytes: size * count, pieces }, { rebuild });
}

/** Numbers that half precision holds exactly. */
function toHalf(value: number): number {
  if (value === 0) return 0;
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  const fraction = Math.round((Math.abs(value) / 2 ** exponent - 1) * 1024);
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | fraction;
}

/** What lies around the tensors: as DeepSpeed, Lightning and plain code save them. */
export type Around = 'module' | 'state_dict' | 'model' | 'bare';

export async function saveReleased(
  path: string,
  arch: ReleasedArch,
  kind: ReleasedKind,
  {
    around,
    half = false,
    rebuild = 'v2',
  }: { readonly around: Around; readonly half?: boolean; readonly rebuild?: Rebuild },
): Promise<void> {
  const prefix = around === 'module' ? 'module.' : '';
  const tensors = new Map<string, unknown>();
  for (const [name, shape] of releasedShapes(arch, kind))
    tensors.set(prefix + name, savedOf(name, shape, half, rebuild));
  for (const [name, buffer] of buffersOf(arch, kind)) tensors.set(prefix + name, buffer);
  await torchSave(path, around === 'bare' ? tensors : { [around]: tensors, ...besides[around] });
}

const besides: Readonly<Record<Exclude<Around, 'bare'>, Readonly<Record<string, unknown>>>> = {
  module: {
    buffer_names: ['text_embeddings.position_ids'],
    optimizer: {
      loss_scaler: new Called('deepspeed.runtime.fp16.loss_scaler', 'DynamicLossScaler'),
      dynamic_loss_scale: true,
    },
    lr_scheduler: null,
    csr_tensor_module_names: [],
    skipped_steps: 12,
    global_steps: 200_000,
    dp_world_size: 32,
    random_state: 2n ** 127n + 5n,
  },
  state_dict: {
    epoch: 9,
    global_step: 3000,
    'pytorch-lightning_version': '1.5.5',
    callbacks: { ModelCheckpoint: { best_model_score: new Saved('FloatStorage', [], new Uint8Array(4)) } },
    optimizer_states: [],
    lr_schedulers: [{ last_epoch: 3000, base_lrs: [3e-5] }],
    hyper_parameters: { config: { exp_name: 'finetune', image_size: 384 } },
  },
  model: { optimizer: { state: {}, param_groups: [{ lr: 3e-5, betas: [0.9, 0.98] }] } },
};
