/**
 * What a run is: its recipe, its vocabulary, its data and the weights that it starts from, as one small file in its folder. Going on with
 * other ones is refused, and so is a new run where the checkpoints of an older one lie.
 */
import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { check, MomeError } from '../runtime/errors.ts';
import { exists, replaceFile } from '../runtime/files.ts';
import { readJsonFile } from '../runtime/json.ts';
import { Pace } from '../runtime/pace.ts';
import type { Dataset } from './data/dataset.ts';
import type { Recipe } from './recipe.ts';
import { listCheckpoints } from './run-checkpoints.ts';

/** Name of the file inside the output folder. */
const identityName = 'run.json';
const identityVersion = 1;
/** Fields of a recipe that change nothing in the numbers of a run. */
const freeFields = ['threads', 'checkpointEvery', 'checkpointActivations', 'evaluateEvery', 'keepCheckpoints'];
/** Fields that name files: their contents are hashed. */
const fileFields = ['init', 'vocabulary', 'patchTokenizer'];

/** Values hashed between two looks at other events: 4 MiB. */
const valuesAtOnce = 2 ** 20;

const identitySchema = z.object({
  version: z.literal(identityVersion),
  recipe: z.record(z.string(), z.unknown()),
  vocabulary: z.string(),
  data: z.string(),
  init: z.string(),
  patchTokenizer: z.string().default(''),
});
/** A run's recipe, and hashes of what it reads. */
export type RunIdentity = z.infer<typeof identitySchema>;

/**
 * The identity of a run.
 *
 * @param init hash of the weights that it starts from, empty for random ones
 * @param patchTokenizer hash of its file, empty where there is none
 */
export async function identityOf(
  recipe: Recipe,
  data: Pick<Dataset, 'fingerprint'>,
  vocabulary: Uint8Array | undefined,
  init: string,
  patchTokenizer = '',
): Promise<RunIdentity> {
  const isFile = (field: string, value: unknown) => fileFields.includes(field) && typeof value === 'string';
  const named = Object.entries(recipe).filter(([field, value]) => !freeFields.includes(field) && !isFile(field, value));
  return {
    version: identityVersion,
    recipe: JSON.parse(JSON.stringify(Object.fromEntries(named))),
    vocabulary: vocabulary ? createHash('sha256').update(vocabulary).digest('hex') : '',
    data: await data.fingerprint(),
    init,
    patchTokenizer,
  };
}

/** Of the weights that a run starts from. */
export async function hashOfParameters(parameters: ReadonlyMap<string, Float32Array>): Promise<string> {
  const hash = createHash('sha256');
  const pace = new Pace();
  for (const [name, values] of parameters) {
    hash.update(name);
    for (let first = 0; first < values.length; first += valuesAtOnce) {
      const part = values.subarray(first, first + valuesAtOnce);
      hash.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
      await pace.rest();
    }
  }
  return hash.digest('hex');
}

/** Whether a run has begun in a folder. */
export const hasRun = (folder: string): Promise<boolean> => exists(join(folder, identityName));

/**
 * Prepares a folder for a new run.
 *
 * @param overwrite remove the files of an older run instead of refusing them
 * @throws MomeError `MOME_INVALID_ARGUMENT` where an older run's checkpoints lie in the folder
 */
export async function requireFreshFolder(folder: string, overwrite: boolean): Promise<void> {
  const checkpoints = (await listCheckpoints(folder)).map(({ name }) => name);
  const left = [...checkpoints, ...((await hasRun(folder)) ? [identityName] : [])];
  check(
    left.length === 0 || overwrite,
    'MOME_INVALID_ARGUMENT',
    `train: expected a folder without an older run, got ${left[0]} in ${folder}; go on with it by resume, or remove it by overwrite`,
  );
  // The vocabulary, the metrics and the best model are the older run's too.
  const removed = overwrite ? [...left, 'vocab.txt', 'patch-tokenizer.safetensors', 'metrics.jsonl', 'best'] : [];
  for (const name of removed) await rm(join(folder, name), { force: true, recursive: true });
}

/**
 * Writes the identity of a run when it begins, and compares it when the run goes on.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` naming what differs; `MOME_INVALID_FILE` for checkpoints without a run
 */
export async function claimFolder(folder: string, identity: RunIdentity): Promise<void> {
  const file = join(folder, identityName);
  if (!(await exists(file))) {
    const [checkpoint] = await listCheckpoints(folder);
    check(
      checkpoint === undefined,
      'MOME_INVALID_FILE',
      `${folder}: expected ${identityName} beside ${checkpoint?.name}, found none`,
    );
    await replaceFile(file, (temporary) => writeFile(temporary, `${JSON.stringify(identity, null, 2)}\n`));
    return;
  }
  const parsed = identitySchema.safeParse(
    await readJsonFile(file, 'the description of a run', { bytes: 2 ** 20, depth: 20, values: 2 ** 14 }),
  );
  if (!parsed.success)
    throw new MomeError('MOME_INVALID_FILE', `${file}: expected the description of a run, got other JSON`, {
      cause: parsed.error,
    });
  const differences = differencesOf(parsed.data, identity, '');
  check(
    differences.length === 0,
    'MOME_INVALID_ARGUMENT',
    `train: expected the run that ${folder} holds, got another one; these differ: ${differences.slice(0, 8).join(', ')}`,
  );
}

/** Names of the fields in which two values of JSON differ, with the values where they are short. */
export function differencesOf(then: unknown, now: unknown, at: string): string[] {
  if (isRecord(then) && isRecord(now)) {
    const names = new Set([...Object.keys(then), ...Object.keys(now)]);
    return [...names].flatMap((name) => differencesOf(then[name], now[name], at === '' ? name : `${at}.${name}`));
  }
  if (JSON.stringify(then) === JSON.stringify(now)) return [];
  const [before, after] = [JSON.stringify(then) ?? 'nothing', JSON.stringify(now) ?? 'nothing'];
  return [before.length + after.length < 60 ? `${at} (${before}, now ${after})` : at];
}

/** An object or a list: both have named values. */
function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
