/** `mome index` and `mome search`: build and keep an index of a folder, query it by text or picture. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { check } from '../runtime/errors.ts';
import { printable } from '../runtime/printable.ts';
import { DiskIndex, SearchIndex, scanFolder } from '../search/index.ts';
import { isDiskIndex } from '../search/index-file.ts';
import { indexTarget } from '../search/index-target.ts';
import { fileName } from '../search/words.ts';
import { countNumber, interruption, type ModelFlags, wholeNumber, withModel, withModelFlags } from './context.ts';
import { print, printJson } from './output.ts';
import { type AnswerFlags, answerQueries, nothingIn, type Query } from './search-answers.ts';
import { canKeep, type Opened, openIndex, reportSkipped, type Skipped } from './search-opening.ts';
import { pictureArgument, standardInput, textArguments, wordsArgument } from './stdin.ts';

interface IndexFlags extends ModelFlags {
  readonly index?: string;
  /** Whether to keep 8-bit rows on disk; where nothing is said an index keeps its kind. */
  readonly int8?: boolean;
}

type SearchFlags = IndexFlags & AnswerFlags;

/** Name of the index kept in the folder it describes. */
const indexName = '.mome-index.safetensors';
/** What the page calls the model without `--model`. */
const shippedModel = 'that comes with mome';

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
  ).action((folder: string, flags: IndexFlags) => search(folder, [], { ...flags, k: 1, rerank: 0 }));
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
        '[text...]',
        'what to look for, with or without quotes, or - for queries on standard input, one a line; without it the index is only built',
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
      .option('--html <file>', 'write a page with the pictures')
      .option('--open', 'open the page in the browser; without --html it is a temporary file'),
  ).action(search);
}

async function search(folder: string, words: readonly string[], flags: SearchFlags): Promise<void> {
  const text = wordsArgument(words);
  check(
    text === undefined || flags.image === undefined,
    'MOME_INVALID_ARGUMENT',
    'search: expected a text or --image, got both',
  );
  if ((await stat(folder).catch(() => undefined))?.isFile()) return searchFile(folder, text, flags);
  const signal = interruption();
  const file = flags.index ?? join(folder, indexName);
  const listed = await scanFolder(folder, signal);
  const queries = await queriesOf(text, flags.image);
  if (queries.length === 0) await indexTarget(file); // an index that cannot be kept is then good for nothing
  const isWritable = queries.length === 0 || (await canKeep(file));
  await withModel(flags, async (model) => {
    const opened = await openIndex(model, folder, listed.pictures, isWritable ? file : undefined, flags, signal);
    const skipped = [...listed.leftOut.map(({ path, reason }) => ({ path, error: reason })), ...opened.skipped];
    if (!flags.json && !flags.quiet) reportSkipped(folder, listed.leftOut, opened.skipped);
    if (queries.length === 0) {
      reportIndex(folder, opened, skipped, flags);
      return;
    }
    const isList = text === standardInput;
    const count = opened.index.items.length;
    await answerQueries(opened.index, queries, { folder, count, model: nameOf(flags), skipped, isList, flags, signal });
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
    const count = index instanceof DiskIndex ? index.count : index.items.length;
    const isList = text === standardInput;
    const shown = { folder: index.root, count, model: nameOf(flags), skipped: [], isList, flags, signal };
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
        ...(image !== standardInput && { path: image }),
      },
    ];
  if (text === undefined) return [];
  const texts = (await textArguments([text])).filter((each) => each.trim() !== '');
  check(texts.length > 0, 'MOME_INVALID_ARGUMENT', 'search: expected a text, got an empty one');
  return texts.map((each) => ({ label: each, text: each }));
}

/** The model, as a page names it. */
const nameOf = ({ model }: ModelFlags): string => (model === undefined ? shippedModel : fileName(model));

function reportIndex(folder: string, { index, isKept }: Opened, skipped: readonly Skipped[], flags: SearchFlags): void {
  check(isKept, 'MOME_IO', `${folder}: expected to keep the index, which could not be written`);
  const count = index.items.length;
  if (flags.json) printJson({ indexed: count, skipped });
  else if (count === 0) print(nothingIn(folder, skipped));
  else
    print(
      `indexed ${count} ${count === 1 ? 'picture' : 'pictures'}${skipped.length > 0 ? `, skipped ${skipped.length}` : ''}`,
    );
}
