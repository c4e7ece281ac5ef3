/**
 * Takes a BEiT checkpoint over: its FFN and second norm become the image expert, its per-layer bias tables one table.
 */

import { configLimits } from '../architecture/config.ts';
import { check } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';
import type { Checkpoint } from './checkpoint.ts';
import { checkTableSize } from './resize-positions.ts';
import { readTensor, type TensorEntry } from './tensors.ts';

/** A parameter's values: in a file as they are, or made in memory. */
export type ParameterSource =
  | TensorEntry
  | { readonly name: string; readonly shape: readonly number[]; readonly values: Float32Array };

const tableName = /^blocks\.(\d+)\.attn\.relative_position_bias_table$/;
const sharedTableName = 'rel_pos_bias.relative_position_bias_table';

/** Rows of a table copied between two looks at the clock. */
const rowsPerPiece = 1024;

/** Most blocks, as in a configuration: the largest number in a name says how many there are. */
const maxLayers = configLimits.layers;

/** Whether `checkpoint` holds a BEiT: blocks without experts at the top level. */
export function isBeit(checkpoint: Checkpoint): boolean {
  return checkpoint.entries.has('blocks.0.attn.qkv.weight') && checkpoint.entries.has('patch_embed.proj.weight');
}

/**
 * The tensors under VLMo's names. The bias tables of the layers stand side by side in the first rows of
 * `relative_position_bias_table`; the rows that BEiT does not know, those of text, are zero. BEiT's classifiers are left out, and so are its
 * mask token and its head over visual tokens where the model has none, or another number of them.
 *
 * @param textPositions rows of the table beyond BEiT's: two cross-modal ones and those of text offsets
 * @param visualTokens of the model, see `VlmoConfig`
 * @throws MomeError `MOME_TOO_LARGE` for block numbers or tables beyond any model, `MOME_INVALID_SHAPE` for tables that differ
 */
export async function takeOverBeit(
  checkpoint: Checkpoint,
  textPositions: number,
  visualTokens: number | undefined,
): Promise<Map<string, ParameterSource>> {
  const sources = new Map<string, ParameterSource>();
  const tables = new Map<number, TensorEntry>();
  let layers = 0;
  for (const [name, entry] of checkpoint.entries) {
    const block = /^blocks\.(\d+)\./.exec(name);
    if (block) {
      layers = Math.max(layers, Number(block[1]) + 1);
      check(
        layers <= maxLayers,
        'MOME_TOO_LARGE',
        `${checkpoint.path}: expected at most ${maxLayers} blocks, got ${name.slice(0, 80)}`,
      );
    }
    const table = tableName.exec(name);
    if (table) tables.set(Number(table[1]), entry);
    const renamed = table ? undefined : renamedParameter(name, entry, visualTokens);
    if (renamed !== undefined) sources.set(renamed, { ...entry, name: renamed });
  }
  const shared = checkpoint.entries.get(sharedTableName);
  const perLayer = Array.from({ length: layers }, (_, layer) => tables.get(layer) ?? shared);
  if (perLayer.length > 0 && perLayer.every((entry) => entry !== undefined)) {
    sources.set('relative_position_bias_table', await mergeTables(perLayer, textPositions));
  }
  return sources;
}

/** VLMo's name of a parameter; undefined for one that is left out. */
function renamedParameter(name: string, { shape }: TensorEntry, visualTokens: number | undefined): string | undefined {
  if (name.startsWith('lm_head.'))
    return shape[0] === visualTokens ? name.replace(/^lm_head/, 'mim_score.fc') : undefined;
  if (name === 'mask_token') return visualTokens === undefined ? undefined : `transformer.${name}`;
  if (
    !/^(?:blocks\.|cls_token$|pos_embed$|patch_embed\.|norm\.)/.test(name) ||
    name.endsWith('relative_position_index')
  )
    return undefined;
  return `transformer.${name.replace(/\.mlp\./, '.mlp_imag.').replace(/\.norm2\./, '.norm2_imag.')}`;
}

async function mergeTables(entries: readonly TensorEntry[], textPositions: number): Promise<ParameterSource> {
  const { path, shape: first } = entries[0]!;
  const [rows = 0, heads = 0] = first;
  for (const { name, shape } of entries) {
    check(
      shape.length === 2 && shape[0] === rows && shape[1] === heads,
      'MOME_INVALID_SHAPE',
      `${path}: expected ${name} of shape [${first.join(', ')}] as in the first block, got [${shape.join(', ')}]`,
    );
  }
  const columns = heads * entries.length;
  checkTableSize(rows + textPositions, columns, path);
  const values = new Float32Array((rows + textPositions) * columns);
  const pace = new Pace();
  for (const [layer, entry] of entries.entries()) {
    const table = await readTensor(entry);
    for (let row = 0; row < rows; row++) {
      if (row % rowsPerPiece === 0) await pace.rest();
      values.set(table.subarray(row * heads, (row + 1) * heads), row * columns + layer * heads);
    }
  }
  const name = 'relative_position_bias_table';
  return { name, shape: [rows + textPositions, columns], values };
}
