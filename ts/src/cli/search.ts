/** `mome search`: build and keep an index of a folder, query it by text or picture. */
import { writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { Command } from 'commander';
import type { Vlmo } from '../inference/vlmo.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { exists } from '../runtime/files.ts';
import { listImages, renderResults, SearchIndex, type SearchResult } from '../search/index.ts';
import {
  interruption,
  type ModelFlags,
  print,
  printJson,
  progressBar,
  wholeNumber,
  withModel,
  withModelFlags,
} from './context.ts';
import { table } from './table.ts';

interface SearchFlags extends ModelFlags {
  readonly image?: string;
  readonly k: number;
  readonly rerank: number;
  readonly index?: string;
  readonly html?: string;
}

/** Name of the index kept in the folder it describes. */
const indexName = '.mome-index.safetensors';

export function addSearch(program: Command): void {
  withModelFlags(
    program
      .command('search')
      .description(
        'find pictures of a folder by a text or by a picture; the index is kept in the folder and brought up to date',
      )
      .argument('<folder>', 'folder of pictures')
      .argument('[text]', 'what to look for; without it the index is only built')
      .option('-i, --image <path>', 'look for pictures like this one')
      .option('-k <n>', 'results', wholeNumber, 10)
      .option(
        '--rerank <n>',
        'candidates that the fusion encoder re-ranks (text queries); 0 leaves it out',
        wholeNumber,
        32,
      )
      .option('--index <file>', `where to keep the index; default: ${indexName} in the folder`)
      .option('--html <file>', 'write a page with the pictures'),
  ).action(search);
}

async function search(folder: string, text: string | undefined, flags: SearchFlags): Promise<void> {
  check(
    text === undefined || flags.image === undefined,
    'MOME_INVALID_ARGUMENT',
    'search: expected a text or --image, got both',
  );
  const signal = interruption();
  await withModel(flags, async (model) => {
    const { index, skipped } = await openIndex(model, folder, flags, signal);
    if (text === undefined && flags.image === undefined) {
      if (flags.json) printJson({ indexed: index.items.length, skipped });
      else print(`indexed ${index.items.length} pictures${skipped.length > 0 ? `, skipped ${skipped.length}` : ''}`);
      return;
    }
    const query = flags.image === undefined ? text! : { image: flags.image };
    const results = await index.search(query, { k: flags.k, rerank: flags.rerank, signal });
    if (flags.html !== undefined) {
      const label = text ?? `pictures like ${flags.image}`;
      const page = await renderResults(`mome: ${label}`, [
        { query: label, results, ...(flags.image && { queryImage: flags.image }) },
      ]);
      await writeFile(flags.html, page);
    }
    if (flags.json) printJson({ query: text ?? { image: flags.image }, results, skipped });
    else print(resultTable(results, folder));
  });
}

async function openIndex(
  model: Vlmo,
  folder: string,
  flags: SearchFlags,
  signal: AbortSignal,
): Promise<{ index: SearchIndex; skipped: { path: string; error: string }[] }> {
  const file = flags.index ?? join(folder, indexName);
  const files = await listImages(folder);
  const previous = (await exists(file)) ? await openPrevious(model, file) : undefined;
  const skipped: { path: string; error: string }[] = [];
  const progress = progressBar('indexing', flags.quiet);
  try {
    const index = await SearchIndex.build(model, files, {
      signal,
      ...(previous && { previous }),
      onProgress: progress.update,
      onError: (path, error) => {
        skipped.push({ path, error: (error as Error).message });
      },
    });
    await keep(index, file);
    for (const { path, error } of flags.json || flags.quiet ? [] : skipped)
      process.stderr.write(`skipped ${path}: ${error}\n`);
    return { index, skipped };
  } finally {
    progress.stop();
  }
}

/** Saves the index; where that is not allowed, such as in a folder of others, the search goes on without. */
async function keep(index: SearchIndex, file: string): Promise<void> {
  try {
    await index.save(file);
  } catch (error) {
    if (!(error instanceof MomeError) || error.code !== 'MOME_IO') throw error;
    process.stderr.write(`mome: the index is not kept: ${error.message}\n`);
  }
}

/** The kept index, or nothing when another model made it or it is damaged: it is only a cache. */
async function openPrevious(model: Vlmo, file: string): Promise<SearchIndex | undefined> {
  try {
    return await SearchIndex.open(model, file);
  } catch (error) {
    if (error instanceof MomeError && error.code !== 'MOME_DISPOSED') return undefined;
    throw error;
  }
}

function resultTable(results: readonly SearchResult[], folder: string): string {
  return table(
    ['', 'picture', 'cosine', 'match', 'before'],
    results.map(({ path, score, match, dualRank }, i) => [
      i + 1,
      relative(folder, path),
      score.toFixed(4),
      match === null ? '' : match.toFixed(4),
      dualRank + 1,
    ]),
  );
}
