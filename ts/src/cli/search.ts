/** `mome index` and `mome search`: build and keep an index of a folder, query it by text or picture. */
import { stat, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { Command } from 'commander';
import type { ImageInput, Vlmo } from '../inference/vlmo.ts';
import { check, expectation, MomeError } from '../runtime/errors.ts';
import { printable } from '../runtime/printable.ts';
import { DiskIndex, type LeftOut, renderResults, SearchIndex, type SearchResult, scanFolder } from '../search/index.ts';
import { isDiskIndex } from '../search/index-file.ts';
import { indexTarget } from '../search/index-target.ts';
import {
  countNumber,
  interruption,
  type ModelFlags,
  progressBar,
  wholeNumber,
  withModel,
  withModelFlags,
} from './context.ts';
import { note, print, printJson, printJsonLine } from './output.ts';
import { pictureArgument, standardInput, textArguments } from './stdin.ts';
import { table } from './table.ts';

interface IndexFlags extends ModelFlags {
  readonly index?: string;
  /** Whether to keep 8-bit rows on disk; where nothing is said an index keeps its kind. */
  readonly int8?: boolean;
}

interface SearchFlags extends IndexFlags {
  readonly image?: string;
  readonly k: number;
  readonly rerank: number;
  readonly html?: string;
}

/** An index in memory or on disk. */
type Searchable = Pick<SearchIndex, 'search'>;

/** A query, and its name in the output. */
interface Query {
  readonly label: string;
  readonly text?: string;
  readonly image?: ImageInput;
}

/** A picture that is not in the index, and why. */
interface Skipped {
  readonly path: string;
  readonly error: string;
}

interface Opened {
  readonly index: SearchIndex;
  readonly skipped: readonly Skipped[];
  /** Whether the index is in its file. */
  readonly isKept: boolean;
}

/** Name of the index kept in the folder it describes. */
const indexName = '.mome-index.safetensors';
/** Names listed with each reason for leaving pictures out. */
const mostNames = 5;

export function addSearch(program: Command): void {
  withModelFlags(
    program
      .command('index')
      .description('embed the pictures of a folder and keep their index there, or bring it up to date')
      .argument('<folder>', 'folder of pictures; hidden files and links to folders are left out')
      .option('--int8', 'keep 8-bit rows beside the exact ones: searches of the file leave it on disk')
      .option('--no-int8', 'keep exact rows alone; default: as the index is, and for a new one exact rows alone')
      .option(
        '--index <file>',
        `where to keep the index: a new name, or an index; default: ${indexName} in the folder`,
      ),
  ).action((folder: string, flags: IndexFlags) => search(folder, undefined, { ...flags, k: 1, rerank: 0 }));
  withModelFlags(
    program
      .command('search')
      .description(
        'find pictures of a folder by a text or by a picture; the index is kept in the folder and brought up to date',
      )
      .argument(
        '<folder>',
        'folder of pictures, without hidden files and links to folders; or an index, which is searched as it is',
      )
      .argument(
        '[text]',
        'what to look for, or - for queries on standard input, one a line; without it the index is only built',
      )
      .option('-i, --image <path>', 'look for pictures like this one; - for its bytes on standard input')
      .option('-k <n>', 'results', countNumber, 10)
      .option(
        '--rerank <n>',
        'candidates that the fusion encoder re-ranks (text queries); 0 leaves it out',
        wholeNumber,
        32,
      )
      .option('--index <file>', `where to keep the index: a new name, or an index; default: ${indexName} in the folder`)
      .option('--html <file>', 'write a page with the pictures'),
  ).action(search);
}

async function search(folder: string, text: string | undefined, flags: SearchFlags): Promise<void> {
  check(
    text === undefined || flags.image === undefined,
    'MOME_INVALID_ARGUMENT',
    'search: expected a text or --image, got both',
  );
  if ((await stat(folder).catch(() => undefined))?.isFile()) return searchFile(folder, text, flags);
  const signal = interruption();
  const file = flags.index ?? join(folder, indexName);
  const listed = await scanFolder(folder, signal);
  const isWritable = await canKeep(file);
  const queries = await queriesOf(text, flags.image);
  await withModel(flags, async (model) => {
    const opened = await openIndex(model, folder, listed.pictures, isWritable ? file : undefined, flags, signal);
    const skipped = [...listed.leftOut.map(({ path, reason }) => ({ path, error: reason })), ...opened.skipped];
    if (!flags.json && !flags.quiet) reportSkipped(folder, listed.leftOut, opened.skipped);
    if (queries.length === 0) {
      reportIndex(folder, opened, skipped, flags);
      return;
    }
    await answerQueries(opened.index, queries, { folder, skipped, isList: text === standardInput, flags, signal });
  });
}

/** Searches an index file as it is: no folder is looked at. */
async function searchFile(file: string, text: string | undefined, flags: SearchFlags): Promise<void> {
  check(
    flags.index === undefined && (text !== undefined || flags.image !== undefined),
    'MOME_INVALID_ARGUMENT',
    `search: expected a folder, or an index with a text or --image and without --index, got the file ${printable(file)}`,
  );
  const signal = interruption();
  await indexTarget(file); // refuses what is no index, before the model is loaded
  const queries = await queriesOf(text, flags.image);
  const isOnDisk = await isDiskIndex(file);
  await withModel(flags, async (model) => {
    const index = isOnDisk ? await DiskIndex.open(model, file) : await SearchIndex.open(model, file, { signal });
    const shown = { folder: index.root, skipped: [], isList: text === standardInput, flags, signal };
    try {
      await answerQueries(index, queries, shown);
    } finally {
      if (index instanceof DiskIndex) index.close();
    }
  });
}

async function queriesOf(text: string | undefined, image: string | undefined): Promise<Query[]> {
  if (image !== undefined)
    return [
      {
        label: `pictures like ${image === standardInput ? 'the one given' : image}`,
        image: await pictureArgument(image),
      },
    ];
  if (text === undefined) return [];
  const texts = (await textArguments([text])).filter((each) => each.trim() !== '');
  check(texts.length > 0, 'MOME_INVALID_ARGUMENT', 'search: expected a text, got an empty one');
  return texts.map((each) => ({ label: each, text: each }));
}

function reportIndex(folder: string, { index, isKept }: Opened, skipped: readonly Skipped[], flags: SearchFlags): void {
  check(isKept, 'MOME_IO', 'search: expected to keep the index, which could not be written');
  const count = index.items.length;
  if (flags.json) printJson({ indexed: count, skipped });
  else if (count === 0) print(nothingIn(folder, skipped));
  else
    print(
      `indexed ${count} ${count === 1 ? 'picture' : 'pictures'}${skipped.length > 0 ? `, skipped ${skipped.length}` : ''}`,
    );
}

const nothingIn = (folder: string, skipped: readonly Skipped[]): string =>
  `no pictures found in ${printable(folder)}${skipped.length > 0 ? `, skipped ${skipped.length}` : ''}`;

/** Prints the results of each query; the page is written after that, so that its failure loses nothing. */
async function answerQueries(
  index: Searchable,
  queries: readonly Query[],
  {
    folder,
    skipped,
    isList,
    flags,
    signal,
  }: {
    readonly folder: string;
    readonly skipped: readonly Skipped[];
    readonly isList: boolean;
    readonly flags: SearchFlags;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const sections: { query: string; queryImage?: ImageInput; results: SearchResult[] }[] = [];
  for (const { label, text, image } of queries) {
    const query = text ?? { image: image! };
    const results = await index.search(query, { k: flags.k, rerank: flags.rerank, signal });
    sections.push({ query: label, results, ...(image !== undefined && { queryImage: image }) });
    const shown = { query: text ?? { image: flags.image }, results };
    if (flags.json && isList) printJsonLine(shown);
    else if (flags.json) printJson({ ...shown, skipped });
    else {
      if (isList) print(printable(label));
      print(results.length === 0 ? nothingIn(folder, skipped) : resultTable(results, folder));
    }
  }
  if (flags.html !== undefined)
    await writePage(flags.html, `mome: ${sections.map(({ query }) => query).join(', ')}`, sections);
}

async function writePage(path: string, title: string, sections: Parameters<typeof renderResults>[1]): Promise<void> {
  const page = await renderResults(title, sections);
  await writeFile(path, page).catch((error: unknown) => {
    const { code } = error as NodeJS.ErrnoException;
    const reason = code === 'ENOSPC' ? 'the disk is full' : `could not (${code})`;
    throw new MomeError('MOME_IO', `${path}: expected to write a page here, ${reason}`, { cause: error });
  });
}

/**
 * Whether the index can be kept at `file`. Where the folder of the file is missing or must not be read the search goes on without.
 *
 * @throws MomeError for a file that is no index, a folder or a device
 */
async function canKeep(file: string): Promise<boolean> {
  try {
    await indexTarget(file);
    return true;
  } catch (error) {
    if (!isInputOutput(error)) throw error;
    note(`the index is not kept: ${error.message}`);
    return false;
  }
}

async function openIndex(
  model: Vlmo,
  folder: string,
  pictures: readonly string[],
  file: string | undefined,
  flags: SearchFlags,
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
function reportSkipped(folder: string, leftOut: readonly LeftOut[], skipped: readonly Skipped[]): void {
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

function resultTable(results: readonly SearchResult[], folder: string): string {
  return table(
    ['', 'picture', 'cosine', 'match', 'before'],
    results.map(({ path, similarity, match, dualRank }, i) => [
      i + 1,
      printable(relative(folder, path)),
      similarity.toFixed(4),
      match === null ? '' : match.toFixed(4),
      dualRank + 1,
    ]),
  );
}
