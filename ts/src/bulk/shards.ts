/** The division of a job's inputs among shards. */
import { check } from '../runtime/errors.ts';
import type { Position } from './inputs.ts';

/** Most shards of a job: their folders are numbered with five digits. */
const mostShards = 100_000;

/** Shard `index` of `count`, counted from 0. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** Reads "i/n". @throws MomeError `MOME_INVALID_ARGUMENT` unless 0 <= i < n <= 100,000 */
export function parseShard(text: string): Shard {
  const [, index = '', count = ''] = /^(\d{1,6})\/(\d{1,6})$/.exec(text) ?? [];
  const shard = { index: Number(index), count: Number(count) };
  check(
    index !== '' && shard.index < shard.count && shard.count <= mostShards,
    'MOME_INVALID_ARGUMENT',
    `embed: expected --shard i/n with i from 0 to n - 1 and n up to ${mostShards}, got ${JSON.stringify(text)}`,
  );
  return shard;
}

/** The units of a shard: from floor(i * units / n) to before floor((i + 1) * units / n). Every unit is in exactly one shard. */
export function unitsOf({ index, count }: Shard, units: number): { readonly begin: number; readonly end: number } {
  return { begin: Math.floor((index * units) / count), end: Math.floor(((index + 1) * units) / count) };
}

/** Folder of a shard inside the output folder; sorted by name, shards are in the order of the inputs. */
export function shardFolder({ index, count }: Shard): string {
  return `shard-${String(index).padStart(5, '0')}-of-${String(count).padStart(5, '0')}`;
}

/** Progress where all units weigh the same. */
export function unitProgress(begin: number, { unit }: Position, end: number): number {
  return end === begin ? 1 : (unit - begin) / (end - begin);
}
