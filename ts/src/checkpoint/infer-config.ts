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
  const heads = known.heads ?? (beit ? beitHeads(checkpoint) : table ? table[1]! / layers : headsOfWidth(width));
  const grid = gridOfShapes(table, absolute, known, textPositions, where, beit ? beitRows(checkpoint) : undefined);
  return parseConfig(
    {
      imageSize: grid.size * patch[3]!,
      patchSize: patch[3],
      width,
      layers,
      heads,
      hiddenRatio: (shape(`${prefix}blocks.0.${beit ? 'mlp' : 'mlp_imag'}.fc1.weight`)?.[0] ?? 4 * width) / width,
      firstVlLayer: firstVl,
      positions: absolute && !table ? 'absolute' : 'relative',
      layerScale: shape(`${prefix}blocks.0.gamma_1`) ? 0.1 : null,
      maxTextLength: Math.min(
        textPositions ?? presets.base.maxTextLength,
        absolute ? Number.POSITIVE_INFINITY : grid.initLength,
      ),
      maxTextLengthOfInit: grid.initLength,
      vocabularySize: shape('text_embeddings.word_embeddings.weight')?.[0] ?? presets.base.vocabularySize,
      answers: shape('vqa_classifier.3.weight')?.[0] ?? presets.base.answers,
      ...known,
    },
    where,
  );
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

/** Official widths have heads of 64, base_plus of 34. */
function headsOfWidth(width: number): number {
  return width === presets.base_plus.width ? presets.base_plus.heads : Math.max(1, Math.round(width / 64));
}

function beitTable(checkpoint: Checkpoint): readonly number[] | undefined {
  return (
    checkpoint.entries.get('blocks.0.attn.relative_position_bias_table') ??
    checkpoint.entries.get('rel_pos_bias.relative_position_bias_table')
  )?.shape;
}

function beitHeads(checkpoint: Checkpoint): number {
  return beitTable(checkpoint)?.[1] ?? headsOfWidth(checkpoint.entries.get('patch_embed.proj.weight')!.shape[0]!);
}

function beitRows(checkpoint: Checkpoint): number | undefined {
  return beitTable(checkpoint)?.[0];
}

/** Patches along a side, and the text length the relative table was sized for. */
function gridOfShapes(
  table: readonly number[] | undefined,
  absolute: readonly number[] | undefined,
  known: Partial<VlmoConfig>,
  textPositions: number | undefined,
  where: string,
  beitTableRows: number | undefined,
): { readonly size: number; readonly initLength: number } {
  const initLength = known.maxTextLengthOfInit ?? presets.base.maxTextLengthOfInit;
  if (absolute && !table) return { size: Math.sqrt(absolute[1]! - 1), initLength };
  if (beitTableRows !== undefined) return { size: (Math.sqrt(beitTableRows - 3) + 1) / 2, initLength };
  check(table !== undefined, 'MOME_INVALID_CONFIG', `${where}: expected relative or absolute positions, found neither`);
  const candidates = known.maxTextLengthOfInit ? [known.maxTextLengthOfInit] : [initLength, textPositions ?? 0];
  for (const length of candidates) {
    const size = (Math.sqrt(table[0]! - 5 - 2 * length) + 1) / 2;
    if (Number.isInteger(size) && size >= 1) return { size, initLength: length };
  }
  check(
    false,
    'MOME_INVALID_CONFIG',
    `${where}: expected a table of ${candidates.join(' or ')} text positions, got ${table[0]} rows; give a config.json`,
  );
}
