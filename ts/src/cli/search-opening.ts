/** The index of a folder for `mome index` and `mome search`: opened, brought up to date, kept, and what is left out of it. */
import { relative } from 'node:path';
import type { Vlmo } from '../inference/index.ts';
import { expectation, MomeError } from '../runtime/errors.ts';
import { type LeftOut, SearchIndex } from '../search/index.ts';
import { isDiskIndex } from '../search/index-file.ts';
import { indexTarget } from '../search/index-target.ts';
import { note } from './output.ts';
import { progressBar } from './terminal.ts';

/** A picture that is not in the index, and why. */
export interface Skipped {
  readonly path: string;
  readonly error: string;
}

export interface Opened {
  readonly index: SearchIndex;
  readonly skipped: readonly Skipped[];
  /** Whether the index is in its file. */
  readonly isKept: boolean;
}

/** What opening an index is asked for. */
export interface OpeningFlags {
  readonly json?: boolean;
  readonly quiet?: boolean;
  /** Whether to keep 8-bit rows on disk; where nothing is said an index keeps its kind. */
  readonly int8?: boolean;
}

/** Names listed with each reason for leaving pictures out. */
const mostNames = 5;

/**
 * Whether the index can be kept at `file`. Where the folder of the file is missing or must not be read the search goes on without.
 *
 * @throws MomeError for a file that is no index, a folder or a device
 */
export async function canKeep(file: string): Promise<boolean> {
  try {
    await indexTarget(file);
    return true;
  } catch (error) {
    if (!isInputOutput(error)) throw error;
    note(`the index is not kept: ${error.message}`);
    return false;
  }
}

export async function openIndex(
  model: Vlmo,
  folder: string,
  pictures: readonly string[],
  file: string | undefined,
  flags: OpeningFlags,
  signal: AbortSignal,
): Promise<Opened> {
  const previous = file === undefined ? undefined : await openPrevious(model, file, folder, signal);
  const skipped: Skipped[] = [];
  const progress = progressBar('indexing', flags.quiet);
  try {
    const index = await SearchIndex.build(model, pictures, {
      signal,
      root: folder,
      ...(file !== undefined && { file }),
      ...(previous && { previous }),
      onProgress: progress.update,
      onError: (path, error) => {
        skipped.push({ path, error: expectation(error as Error) });
      },
    });
    progress.stop();
    return { index, skipped, isKept: file !== undefined && (await keep(index, file, flags.int8)) };
  } catch (error) {
    progress.stop();
    const isAborted = error instanceof MomeError && error.code === 'MOME_ABORTED';
    if (isAborted && !flags.quiet && !flags.json) note('what was embedded is kept: the next run goes on from there');
    throw error;
  }
}

/** Saves the index; where that is not allowed, such as in a folder of others, the search goes on without. */
async function keep(index: SearchIndex, file: string, int8: boolean | undefined): Promise<boolean> {
  try {
    await index.save(file, { int8: int8 ?? (await isDiskIndex(file).catch(() => false)) });
    return true;
  } catch (error) {
    if (!isInputOutput(error)) throw error;
    note(`the index is not kept: ${error.message}`);
    return false;
  }
}

const isInputOutput = (error: unknown): error is MomeError => error instanceof MomeError && error.code === 'MOME_IO';

/** The kept index, or nothing when another model made it or it is damaged: it is only a cache. */
async function openPrevious(
  model: Vlmo,
  file: string,
  root: string,
  signal: AbortSignal,
): Promise<SearchIndex | undefined> {
  try {
    return await SearchIndex.open(model, file, { root, signal });
  } catch (error) {
    if (!(error instanceof MomeError) || ['MOME_DISPOSED', 'MOME_ABORTED', 'MOME_OUT_OF_MEMORY'].includes(error.code))
      throw error;
    if (error.code !== 'MOME_NOT_FOUND') note(`the index is built anew: ${error.message}`);
    return undefined;
  }
}

/** Says on standard error what is left out: by reasons what was not tried, one by one what could not be read. */
export function reportSkipped(folder: string, leftOut: readonly LeftOut[], skipped: readonly Skipped[]): void {
  const byReason = new Map<string, string[]>();
  for (const { path, reason } of leftOut) {
    const names = byReason.get(reason) ?? [];
    names.push(relative(folder, path));
    byReason.set(reason, names);
  }
  for (const [reason, names] of byReason) {
    const more = names.length > mostNames ? `, and ${names.length - mostNames} more` : '';
    note(`skipped ${names.length} (${reason}): ${names.slice(0, mostNames).join(', ')}${more}`);
  }
  for (const { path, error } of skipped) note(`skipped ${relative(folder, path)}: ${error}`);
}
