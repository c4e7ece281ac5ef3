/**
 * What a shard of a job is and how far it has come: one small file in its folder, which changes together with every part. Going on with
 * another model, other inputs or other options is refused.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { namesIn, takeOverCommit } from '../runtime/commit.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { exists, writeTogether } from '../runtime/files.ts';
import { readJsonFile } from '../runtime/json.ts';
import { differencesOf } from '../train/run-identity.ts';
import { formats, partFile } from './parts.ts';

/** Its name begins with an underscore: readers of folders of Parquet files leave such files out. */
const stateName = '_job.json';
const count = z.number().int().min(0);
const schema = z.object({
  version: z.literal(1),
  /** What must not change when the job goes on. */
  job: z.object({
    mome: z.string(),
    model: z.string(),
    width: count,
    dtype: z.string(),
    inputs: z.string(),
    kind: z.enum(['pictures', 'texts']),
    units: count,
    shard: z.string(),
    format: z.enum(formats),
    partSize: count,
    id: z.string(),
  }),
  /** Finished parts, their rows, and those among them without an embedding. */
  parts: count,
  rows: count,
  errors: count,
  next: z.object({ unit: count, item: count }),
  done: z.boolean(),
});

/** The state of a shard. */
export type ShardState = z.infer<typeof schema>;
export type JobIdentity = ShardState['job'];

/**
 * The state that a folder holds, or the one of a shard that begins here. Files of a part that was not finished are removed. Called with the
 * folder locked.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for another job; `MOME_INVALID_FILE` for a damaged state, a part that is missing, or parts of
 *   an unknown job
 */
export async function openState(folder: string, job: JobIdentity, first: ShardState['next']): Promise<ShardState> {
  await takeOverCommit(folder);
  const parts: string[] = [];
  for await (const name of namesIn(folder)) {
    if (!/^(part-\d{6}|_job)\..+\.tmp$/.test(name)) {
      if (/^part-\d{6}\./.test(name)) parts.push(name);
    } else await rm(join(folder, name), { force: true }); // of a process that was killed, perhaps on another machine
  }
  const path = join(folder, stateName);
  if (!(await exists(path))) {
    check(
      parts.length === 0,
      'MOME_INVALID_FILE',
      `${folder}: expected ${stateName} beside ${parts[0]}, found none; take another output folder`,
    );
    return { version: 1, job, parts: 0, rows: 0, errors: 0, next: first, done: false };
  }
  const state = await readState(path);
  requireSame(folder, state.job, job);
  const there = new Set(parts);
  for (let part = 0; part < state.parts; part++) {
    const name = partFile(part, job.format);
    check(there.has(name), 'MOME_INVALID_FILE', `${folder}: expected ${name}, as ${stateName} says, found none`);
  }
  return state;
}

/**
 * Shards in one output folder are of one job: of as many shards, and with the same model, inputs and options, as far as one of them tells.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for a folder that holds another job; `MOME_INVALID_FILE`
 */
export async function requireOneJob(output: string, own: string, job: JobIdentity): Promise<void> {
  const ending = own.slice(own.indexOf('-of-'));
  let isCompared = false;
  for await (const name of namesIn(output)) {
    if (name === own || !/^shard-\d{5}-of-\d{5}$/.test(name)) continue;
    const path = join(output, name, stateName);
    // All shards of one job are the same: one of them is compared, and one of another division is none of this job.
    if ((isCompared && name.endsWith(ending)) || !(await exists(path))) continue;
    check(
      name.endsWith(ending),
      'MOME_INVALID_ARGUMENT',
      `embed: expected shards of one division in ${output}, got ${name} beside ${own}; take another output folder`,
    );
    isCompared = true;
    const { job: other } = await readState(path);
    requireSame(join(output, name), { ...other, shard: job.shard }, job);
  }
}

async function readState(path: string): Promise<ShardState> {
  const parsed = schema.safeParse(
    await readJsonFile(path, 'the state of a job', { bytes: 2 ** 16, depth: 4, values: 100 }),
  );
  if (parsed.success) return parsed.data;
  throw new MomeError('MOME_INVALID_FILE', `${path}: expected the state of a job, got other JSON`, {
    cause: parsed.error,
  });
}

function requireSame(folder: string, then: JobIdentity, now: JobIdentity): void {
  const differences = differencesOf(then, now, '');
  check(
    differences.length === 0,
    'MOME_INVALID_ARGUMENT',
    `embed: expected the job that ${folder} holds, got another one; these differ: ${differences.slice(0, 8).join(', ')}`,
  );
}

/** Writes a state, alone or together with the files of a part: all of them change or none does. */
export async function writeState(
  folder: string,
  state: ShardState,
  writePart: (fileIn: (name: string) => string) => Promise<void> = async () => {},
): Promise<void> {
  await writeTogether(folder, async (fileIn) => {
    await writePart(fileIn);
    await writeFile(fileIn(stateName), `${JSON.stringify(state, null, 2)}\n`);
  });
}
