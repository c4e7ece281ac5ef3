/**
 * Names and shapes of every parameter of a model, in the order of the official checkpoints.
 */
import { hiddenOf, imageTokensOf, relativePositionsOf, tokenTypesOf, type VlmoConfig } from './config.ts';

/** Checkpoint names of the experts: the original spells the image expert `imag`. */
const expertNames = { text: 'text', image: 'imag', vl: 'vl' } as const;
export type Expert = keyof typeof expertNames;
/** Checkpoint name of the feed-forward layer that stands in place of all experts. */
const sharedName = 'shared';

/** How an expert's parameters are called: `norm2_<name>`, `mlp_<name>`. */
export const expertName = ({ sharedFfn }: Pick<VlmoConfig, 'sharedFfn'>, expert: Expert): string =>
  sharedFfn ? sharedName : expertNames[expert];

/** Name -> shape of every parameter of `config`; a checkpoint holds these and nothing else that matters. */
export function parameterShapes(config: VlmoConfig): ReadonlyMap<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  const {
    width: D,
    layers,
    heads,
    positions,
    patchSize,
    maxTextLength,
    vocabularySize: V,
    answers,
    visualTokens,
  } = config;
  const F = hiddenOf(config);
  const linear = (name: string, out: number, inputs: number, bias = true) => {
    shapes.set(`${name}.weight`, [out, inputs]);
    if (bias) shapes.set(`${name}.bias`, [out]);
  };
  const norm = (name: string, width = D) => {
    shapes.set(`${name}.weight`, [width]);
    shapes.set(`${name}.bias`, [width]);
  };

  shapes.set('text_embeddings.word_embeddings.weight', [V, D]);
  shapes.set('text_embeddings.position_embeddings.weight', [maxTextLength, D]);
  shapes.set('text_embeddings.token_type_embeddings.weight', [2, D]);
  norm('text_embeddings.LayerNorm');
  shapes.set('token_type_embeddings.weight', [tokenTypesOf(config), D]);
  shapes.set('transformer.cls_token', [1, 1, D]);
  if (visualTokens !== undefined) shapes.set('transformer.mask_token', [1, 1, D]);
  if (positions === 'absolute') shapes.set('transformer.pos_embed', [1, imageTokensOf(config), D]);
  shapes.set('transformer.patch_embed.proj.weight', [D, 3, patchSize, patchSize]);
  shapes.set('transformer.patch_embed.proj.bias', [D]);
  if (positions === 'relative')
    shapes.set('relative_position_bias_table', [relativePositionsOf(config), heads * layers]);

  for (let layer = 0; layer < layers; layer++) {
    const block = `transformer.blocks.${layer}`;
    norm(`${block}.norm1`);
    shapes.set(`${block}.attn.qkv.weight`, [3 * D, D]);
    shapes.set(`${block}.attn.q_bias`, [D]);
    shapes.set(`${block}.attn.v_bias`, [D]);
    linear(`${block}.attn.proj`, D, D);
    if (config.layerScale !== null) {
      shapes.set(`${block}.gamma_1`, [D]);
      shapes.set(`${block}.gamma_2`, [D]);
    }
    for (const expert of expertsOfLayer(config, layer)) {
      norm(`${block}.norm2_${expert}`);
      linear(`${block}.mlp_${expert}.fc1`, F, D);
      linear(`${block}.mlp_${expert}.fc2`, D, F);
    }
  }
  norm('transformer.norm');

  linear('pooler.dense', D, D);
  linear('itm_score.fc', 2, D);
  linear('mlm_score.transform.dense', D, D);
  norm('mlm_score.transform.LayerNorm');
  linear('mlm_score.decoder', V, D, false);
  shapes.set('mlm_score.bias', [V]);
  if (visualTokens !== undefined) linear('mim_score.fc', visualTokens, D);
  for (const head of ['itc_text_proj', 'itc_image_proj', 'itc_vl_text_proj', 'itc_vl_image_proj'])
    linear(`${head}.fc`, D, D, false);
  shapes.set('logit_scale', []);
  shapes.set('logit_vl_scale', []);
  for (const [head, inputs, classes] of [
    ['vqa_classifier', D, answers],
    ['nlvr2_classifier', 2 * D, 2],
  ] as const) {
    linear(`${head}.0`, 2 * D, inputs);
    norm(`${head}.1`, 2 * D);
    linear(`${head}.3`, classes, 2 * D);
  }
  return shapes;
}

/** Whether `name` is one of the large matrices of the blocks: the ones that have 8 bits in an int8 model. */
export function isBlockMatrix(name: string): boolean {
  return /^transformer\.blocks\.\d+\.(?:attn\.(?:qkv|proj)|mlp_\w+\.fc[12])\.weight$/.test(name);
}

/** Names of the experts that block `layer` holds: text and image everywhere, `vl` from the first VL layer on; or the one that all share. */
function expertsOfLayer(config: VlmoConfig, layer: number): ReadonlySet<string> {
  const experts: Expert[] = layer >= config.firstVlLayer ? ['text', 'image', 'vl'] : ['text', 'image'];
  return new Set(experts.map((expert) => expertName(config, expert)));
}
