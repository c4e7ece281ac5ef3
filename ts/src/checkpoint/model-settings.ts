/**
 * What stands beside the weights of a model: its `config.json` and `answers.json`, each within the limits of a file from outside.
 */
import { z } from 'zod';
import { configFromArch, configLimits, parseConfig, type VlmoConfig } from '../architecture/config.ts';
import { check } from '../runtime/errors.ts';
import type { TextFile } from '../runtime/input-file.ts';
import { type JsonLimits, parseJson } from '../runtime/json.ts';

/** What `config.json` may hold: it has some 20 values. */
export const configJsonLimits: JsonLimits = { bytes: 2 ** 16, depth: 16, values: 2 ** 12 };
/** What `answers.json` may hold: that of VQA 2 has 3,129 answers and 40,000 bytes. */
export const answersLimits: JsonLimits = { bytes: 4 * 2 ** 20, depth: 1, values: configLimits.answers + 1 };

/** Reads a configuration in this library's names or in those of the original code. */
export async function readConfig(file: TextFile): Promise<VlmoConfig> {
  const { path } = file;
  const json = await parseJson(file.text, path, configJsonLimits);
  check(typeof json === 'object' && json !== null, 'MOME_INVALID_CONFIG', `${path}: expected an object`);
  if ('arch' in json) return configFromArch(json.arch, path);
  if ('embed_dim' in json) return configFromArch(json, path);
  const { modelType: _, fusionWeight: __, matchCalibration: ___, ...config } = json as Record<string, unknown>;
  return parseConfig(config, path);
}

const finite = z.number().min(-1000).max(1000);
const fusionSchema = z.object({
  fusionWeight: z.number().min(0).max(100).default(1),
  matchCalibration: z.strictObject({ slope: finite.positive(), offset: finite }).optional(),
});

/** How likely a pair is, given the matching head: `1 / (1 + exp(-(slope * logOdds + offset)))`, fitted on held-out pairs. */
export interface MatchCalibration {
  readonly slope: number;
  readonly offset: number;
}

/** What `config.json` says of re-ranking beside the sizes of the model, see `fusedScore`. */
export interface FusionSettings {
  /** How much the matching head counts; 1 where nothing is said. */
  readonly fusionWeight: number;
  readonly matchCalibration: MatchCalibration | undefined;
}

export async function readFusion(file: TextFile | undefined, folder: string): Promise<FusionSettings> {
  const path = file?.path ?? folder;
  const parsed = fusionSchema.safeParse(file ? await parseJson(file.text, path, configJsonLimits) : {});
  check(
    parsed.success,
    'MOME_INVALID_CONFIG',
    `${path}: expected fusionWeight to be a number from 0 to 100, and matchCalibration { slope, offset } with a slope above 0`,
  );
  const { fusionWeight, matchCalibration } = parsed.data;
  return { fusionWeight, matchCalibration };
}

export async function readAnswers(file: TextFile): Promise<readonly string[]> {
  const parsed = z.array(z.string()).safeParse(await parseJson(file.text, file.path, answersLimits));
  check(parsed.success, 'MOME_INVALID_FILE', `${file.path}: expected a list of answers`);
  return parsed.data;
}
