/**
 * From a checkpoint's tensors to the parameters of a configuration: resized, cut, taken over, and what is missing.
 */
import { gridOf, relativePositionsOf, type VlmoConfig } from '../architecture/config.ts';
import { parameterShapes } from '../architecture/parameters.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { isBeit, type ParameterSource, takeOverBeit } from './beit.ts';
import type { Checkpoint } from './checkpoint.ts';
import { requireFinite } from './finite.ts';
import { scaleName } from './quantise.ts';
import { resizeAbsolutePositions, resizeRelativeTable } from './resize-positions.ts';
import { readTensor } from './tensors.ts';

/** How a checkpoint fills a configuration. */
export interface TakenParameters {
  readonly sources: ReadonlyMap<string, ParameterSource>;
  /** Parameters of the configuration that the checkpoint lacks. */
  readonly missing: readonly string[];
  /** Tensors of the checkpoint that are no parameters of the configuration. */
  readonly unexpected: readonly string[];
  /** What was changed on the way, in words. */
  readonly notes: readonly string[];
}

const tableName = 'relative_position_bias_table';
const absoluteName = 'transformer.pos_embed';
const textPositionsName = 'text_embeddings.position_embeddings.weight';
const typesName = 'token_type_embeddings.weight';

/** Buffers that official checkpoints carry beside parameters. */
const buffers = /(?:position_ids|token_type_ids|relative_position_index|num_batches_tracked|mask_token)$/;

/**
 * @throws MomeError `MOME_INVALID_SHAPE` for a tensor that fits the configuration neither as it is nor resized
 */
export async function takeParameters(checkpoint: Checkpoint, config: VlmoConfig): Promise<TakenParameters> {
  const shapes = parameterShapes(config);
  const beit = isBeit(checkpoint);
  const available: ReadonlyMap<string, ParameterSource> = beit
    ? await takeOverBeit(checkpoint, 2 + 2 * config.maxTextLengthOfInit, config.visualTokens)
    : checkpoint.entries;
  const sources = new Map<string, ParameterSource>();
  const notes: string[] = beit ? ['a BEiT checkpoint: its FFN became the image expert'] : [];
  const missing: string[] = [];
  for (const [name, shape] of shapes) {
    const found = available.get(name);
    const foreign = checkpoint.foreign.get(name);
    check(
      foreign === undefined || found !== undefined,
      'MOME_UNSUPPORTED',
      `${checkpoint.path}: expected ${name} in a float type, got ${foreign}; save it as float32`,
    );
    if (!found) {
      missing.push(name);
      continue;
    }
    check(
      !('dtype' in found) || found.dtype !== 'I8' || found.scale !== undefined,
      'MOME_INVALID_FILE',
      `${checkpoint.path}: expected the float32 scales of the rows of the 8-bit ${name} in ${scaleName(name)}, found none`,
    );
    const fitted = sameShape(found.shape, shape) ? found : await adapt(name, found, shape, config, checkpoint.path);
    if (fitted !== found) notes.push(`${name}: [${found.shape.join(', ')}] taken to [${shape.join(', ')}]`);
    sources.set(name, fitted);
  }
  const unexpected = [...available.keys()].filter((name) => !shapes.has(name) && !buffers.test(name));
  return { sources, missing, unexpected, notes };
}

/** All values in memory. */
export async function loadParameterValues(
  checkpoint: Checkpoint,
  config: VlmoConfig,
): Promise<Map<string, Float32Array>> {
  const { sources } = await takeParameters(checkpoint, config);
  const values = new Map<string, Float32Array>();
  for (const [name, source] of sources) values.set(name, await valuesOf(source));
  return values;
}

/**
 * Values of a source, read when they are in a file.
 *
 * @throws MomeError `MOME_NON_FINITE` naming the tensor and the index; as `readTensor`
 */
export async function valuesOf(source: ParameterSource): Promise<Float32Array> {
  const values = 'values' in source ? source.values : await readTensor(source);
  await requireFinite(values, source);
  return values;
}

async function adapt(
  name: string,
  source: ParameterSource,
  shape: readonly number[],
  config: VlmoConfig,
  path: string,
): Promise<ParameterSource> {
  const made = (values: Float32Array): ParameterSource => ({ name, shape, values });
  // A scalar may be stored as one element.
  if (shape.length === 0 && source.shape.length === 1 && source.shape[0] === 1) return { ...source, shape };
  const from = source.shape.at(-2) ?? 0;
  if (name === tableName && source.shape.length === 2 && source.shape[1] === shape[1]) {
    const rest = relativePositionsOf(config) - (2 * gridOf(config) - 1) ** 2;
    const grid = (Math.sqrt(from - rest) + 1) / 2;
    if (Number.isInteger(grid) && grid >= 1)
      return made(await resizeRelativeTable(await valuesOf(source), shape[1]!, grid, gridOf(config)));
  }
  if (name === absoluteName && source.shape.length === 3 && source.shape[2] === shape[2]) {
    const grid = Math.sqrt(from - 1);
    if (Number.isInteger(grid))
      return made(await resizeAbsolutePositions(await valuesOf(source), shape[2]!, grid, gridOf(config)));
  }
  if (name === textPositionsName && source.shape.length === 2 && source.shape[1] === shape[1] && from > shape[0]!) {
    return made((await valuesOf(source)).slice(0, shape[0]! * shape[1]!));
  }
  if (name === typesName && source.shape.length === 2 && source.shape[1] === shape[1] && from === 2 && shape[0] === 3) {
    // Comparing two pictures starts with the second picture's type equal to the first's.
    const values = await valuesOf(source);
    const width = shape[1]!;
    const three = new Float32Array(3 * width);
    three.set(values);
    three.set(values.subarray(width), 2 * width);
    return made(three);
  }
  throw new MomeError(
    'MOME_INVALID_SHAPE',
    `${path}: expected ${name} of shape [${shape.join(', ')}], got [${source.shape.join(', ')}]`,
  );
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}
