/**
 * Reads a model's sizes off the shapes of its tensors, where the file brings no configuration.
 */
import { parseConfig, presets, type VlmoConfig } from '../architecture/config.ts';
import { check } from '../runtime/errors.ts';
import { isBeit } from './beit.ts';
import type { Checkpoint } from './checkpoint.ts';

/**
 * @param known sizes that are known from elsewhere and win
 * @throws MomeError `MOME_INVALID_CONFIG` naming what the shapes do not tell
 */
export function inferConfig(checkpoint: Checkpoint, known: Partial<VlmoConfig> = {}): VlmoConfig {
  const beit = isBeit(checkpoint);
  const prefix = beit ? '' : 'transformer.';
  const shape = (name: string): readonly number[] | undefined => checkpoint.entries.get(name)?.shape;
  const where = `${checkpoint.path}: shapes`;
  const patch = shape(`${prefix}patch_embed.proj.weight`);
  check(
    patch?.length === 4,
    'MOME_INVALID_CONFIG',
    `${where}: expected ${prefix}patch_embed.proj.weight, the file holds no VLMo or BEiT model`,
  );
  const width = patch[0]!;
  const layers = countLayers(checkpoint, prefix);
  const absolute = shape(`${prefix}pos_embed`);
  const table = shape('relative_position_bias_table');
  const textPositions = shape('text_embeddings.position_embeddings.weight')?.[0];
  const firstVl = firstLayerWith(checkpoint, layers, 'mlp_vl.fc1.weight');
  const columns = beit ? beitTable(checkpoint)?.[1] : table && table[1]! / layers;
  const heads = known.heads ?? columns ?? headsOfWidth(width, where);
  const sharedFfn = shape(`${prefix}blocks.0.mlp_shared.fc1.weight`) !== undefined;
  const ffn = beit ? 'mlp' : sharedFfn ? 'mlp_shared' : 'mlp_imag';
  const visualTokens = shape('mim_score.fc.weight')?.[0];
  const grid = gridOfShapes(checkpoint, { table, absolute, textPositions, known }, where);
  return parseConfig(
    {
      imageSize: grid.size * patch[3]!,
      patchSize: patch[3],
      width,
      layers,
      heads,
      hiddenRatio: (shape(`${prefix}blocks.0.${ffn}.fc1.weight`)?.[0] ?? 4 * width) / width,
      firstVlLayer: firstVl,
      positions: absolute && !table ? 'absolute' : 'relative',
      layerScale: shape(`${prefix}blocks.0.gamma_1`) ? 0.1 : null,
      maxTextLength: Math.min(
        textPositions ?? textLengthOfBuffers(checkpoint) ?? presets.base.maxTextLength,
        absolute ? Number.POSITIVE_INFINITY : grid.initLength,
      ),
      maxTextLengthOfInit: grid.initLength,
      vocabularySize: shape('text_embeddings.word_embeddings.weight')?.[0] ?? presets.base.vocabularySize,
      answers: shape('vqa_classifier.3.weight')?.[0] ?? presets.base.answers,
      ...(visualTokens !== undefined && { visualTokens }),
      ...(sharedFfn && { sharedFfn }),
      ...known,
    },
    where,
  );
}

/** The configuration with as many token types as the checkpoint has, where `config` does not say. */
export function configOfFile(config: VlmoConfig, checkpoint: Checkpoint): VlmoConfig {
  const rows = checkpoint.entries.get('token_type_embeddings.weight')?.shape[0];
  return config.tokenTypes === undefined && rows === 2 ? { ...config, tokenTypes: 2 } : config;
}

/**
 * The configuration a checkpoint runs with: that of its file, with the third token type where the head that compares two pictures needs
 * it and the file has two. It starts as a copy of the second.
 */
export function configToRun(config: VlmoConfig, checkpoint: Checkpoint): VlmoConfig {
  const { tokenTypes, ...rest } = configOfFile(config, checkpoint);
  if (tokenTypes === undefined) return rest;
  return checkpoint.entries.has('nlvr2_classifier.3.weight') ? rest : { ...rest, tokenTypes };
}

function countLayers(checkpoint: Checkpoint, prefix: string): number {
  let layers = 0;
  while (checkpoint.entries.has(`${prefix}blocks.${layers}.norm1.weight`)) layers++;
  return layers;
}

function firstLayerWith(checkpoint: Checkpoint, layers: number, name: string): number {
  for (let layer = 0; layer < layers; layer++)
    if (checkpoint.entries.has(`transformer.blocks.${layer}.${name}`)) return layer;
  return layers;
}

/** Heads of official models are 64 wide, or 34 in base_plus, whose width 64 does not divide. */
function headsOfWidth(width: number, where: string): number {
  const size = [64, 34].find((each) => width % each === 0);
  check(
    size !== undefined,
    'MOME_INVALID_CONFIG',
    `${where}: expected a width that heads of 64 or 34 divide, got ${width}; give a config.json that says how many heads there are`,
  );
  return width / size;
}

function beitTable(checkpoint: Checkpoint): readonly number[] | undefined {
  return (
    checkpoint.entries.get('blocks.0.attn.relative_position_bias_table') ??
    checkpoint.entries.get('rel_pos_bias.relative_position_bias_table')
  )?.shape;
}

/** What shapes say about positions. */
interface PositionShapes {
  readonly table: readonly number[] | undefined;
  readonly absolute: readonly number[] | undefined;
  readonly textPositions: number | undefined;
  readonly known: Partial<VlmoConfig>;
}

/** Patches along a side, and the text length the relative table was sized for. */
function gridOfShapes(
  checkpoint: Checkpoint,
  { table, absolute, textPositions, known }: PositionShapes,
  where: string,
): { readonly size: number; readonly initLength: number } {
  const initLength = known.maxTextLengthOfInit ?? presets.base.maxTextLengthOfInit;
  if (absolute && !table) return { size: Math.sqrt((absolute[1] ?? 0) - 1), initLength };
  const ofBeit = isBeit(checkpoint) ? beitTable(checkpoint) : undefined;
  if (ofBeit) return { size: (Math.sqrt(ofBeit[0]! - 3) + 1) / 2, initLength };
  check(table !== undefined, 'MOME_INVALID_CONFIG', `${where}: expected relative or absolute positions, found neither`);
  const rows = table[0]!;
  // The index of the table, where the file holds it, tells the grid: what is left of the rows is the text's.
  const size = Math.sqrt((checkpoint.entries.get('relative_position_index')?.shape[0] ?? 0) - 1);
  const rest = (rows - 5 - (2 * size - 1) ** 2) / 2;
  if (
    known.maxTextLengthOfInit === undefined &&
    size >= 1 &&
    Number.isInteger(size) &&
    Number.isInteger(rest) &&
    rest >= 2
  )
    return { size, initLength: rest };
  const candidates = known.maxTextLengthOfInit ? [known.maxTextLengthOfInit] : [initLength, textPositions ?? 0];
  for (const length of candidates) {
    const size = (Math.sqrt(rows - 5 - 2 * length) + 1) / 2;
    if (Number.isInteger(size) && size >= 1) return { size, initLength: length };
  }
  check(
    false,
    'MOME_INVALID_CONFIG',
    `${where}: expected a table of ${candidates.join(' or ')} text positions, got ${rows} rows; give a config.json`,
  );
}

/** Tokens of a text, as the buffers of official files say. */
function textLengthOfBuffers({ entries }: Checkpoint): number | undefined {
  return entries.get('text_embeddings.position_ids')?.shape[1] ?? entries.get('text_relative_position_index')?.shape[0];
}
