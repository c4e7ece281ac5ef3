/** What `mome search` answers: tables, JSON and the page of results. */
import { mkdtemp, realpath, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ImageInput } from '../inference/index.ts';
import { MomeError } from '../runtime/errors.ts';
import { printable } from '../runtime/printable.ts';
import { type ResultSection, renderResults, type SearchIndex, type SearchResult } from '../search/index.ts';
import { moveInWords } from '../search/words.ts';
import { openInBrowser } from './open.ts';
import { note, print, printExplanation, printJson, printJsonLine, printSafe } from './output.ts';
import type { Skipped } from './search-opening.ts';
import { printTable } from './table.ts';
import { styled } from './terminal.ts';

/** An index in memory or on disk. */
export type Searchable = Pick<SearchIndex, 'search'>;

/** A query, and its name in the output. */
export interface Query {
  readonly label: string;
  readonly text?: string;
  readonly image?: ImageInput;
  /** Path of the picture, where it is a file. */
  readonly path?: string;
}

export interface AnswerFlags {
  readonly image?: string;
  readonly k: number;
  readonly rerank: number;
  readonly html?: string;
  readonly open?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export interface Answering {
  readonly folder: string;
  /** Pictures that are searched. */
  readonly count: number;
  /** Name of the model, for the page. */
  readonly model: string;
  readonly skipped: readonly Skipped[];
  /** Whether the queries came as a list on standard input. */
  readonly isList: boolean;
  readonly flags: AnswerFlags;
  readonly signal: AbortSignal;
}

/** Prints the results of each query; the page is written after that, so that its failure loses nothing. */
export async function answerQueries(index: Searchable, queries: readonly Query[], about: Answering): Promise<void> {
  const { folder, count, skipped, isList, flags, signal } = about;
  const sections: ResultSection[] = [];
  const heads = new Set<string>();
  for (const { label, text, image, path } of queries) {
    const begun = performance.now();
    const found = await index.search(text ?? { image: image! }, {
      k: flags.k + (path === undefined ? 0 : 1),
      rerank: flags.rerank,
      signal,
    });
    const results = path === undefined ? found : (await withoutItself(found, path)).slice(0, flags.k);
    const milliseconds = performance.now() - begun;
    const among = count - (results.length < found.length && found.length <= count ? 1 : 0);
    sections.push({ query: label, results, among, milliseconds, ...(image !== undefined && { queryImage: image }) });
    const shown = { query: text ?? { image: flags.image }, results };
    if (flags.json && isList) printJsonLine(shown);
    else if (flags.json) printJson({ ...shown, skipped });
    else {
      if (isList) printSafe(styled('bold', printable(label)));
      if (results.length === 0) print(nothingIn(folder, skipped));
      else for (const head of printResults(results, folder)) heads.add(head);
    }
  }
  if (heads.size > 0) printExplanation(orderOf(heads));
  if (flags.html !== undefined || flags.open) await showPage(sections, about);
}

/** Results without the picture that was asked with; those behind it move up. */
async function withoutItself(found: readonly SearchResult[], path: string): Promise<SearchResult[]> {
  const real = async (file: string) => realpath(file).catch(() => resolve(file));
  const own = await real(path);
  const files = await Promise.all(found.map((result) => real(result.path)));
  const at = files.indexOf(own);
  if (at < 0) return [...found];
  const { dualRank } = found[at]!;
  return found
    .filter((_, i) => i !== at)
    .map((result) => (result.dualRank > dualRank ? { ...result, dualRank: result.dualRank - 1 } : result));
}

export const nothingIn = (folder: string, skipped: readonly Skipped[]): string =>
  `no pictures found in ${printable(folder)}${skipped.length > 0 ? `, skipped ${skipped.length}` : ''}`;

const isReranked = (results: readonly Pick<SearchResult, 'match'>[]): boolean =>
  results.some(({ match }) => match !== null);

/** @returns the heads of the columns that are shown */
function printResults(results: readonly SearchResult[], folder: string): readonly string[] {
  const name = ({ path }: SearchResult) => printable(relative(folder, path));
  if (!isReranked(results)) {
    return printTable(
      ['', 'picture', 'cosine'],
      results.map((result, i) => [i + 1, name(result), result.similarity.toFixed(4)]),
      { shorten: 'picture' },
    );
  }
  return printTable(
    ['', 'picture', 'cosine', 'match', 'score', 'moved'],
    results.map((result, i) => [
      i + 1,
      name(result),
      result.similarity.toFixed(4),
      result.match === null ? '' : result.match.toFixed(4),
      result.score.toFixed(2),
      result.dualRank === i ? '' : moveInWords(result.dualRank, i),
    ]),
    { shorten: 'picture', leaveOut: ['moved', 'cosine', 'match'] },
  );
}

/** Why results stand in their order, in words of the columns that are shown. */
function orderOf(heads: ReadonlySet<string>): string {
  if (!heads.has('score')) return 'in the order of cosine';
  const moved = heads.has('moved') ? '; moved: places gained or lost against cosine alone' : '';
  return `in the order of score, which weighs cosine and match${moved}`;
}

/** Writes the page, and opens it where that was asked for. */
async function showPage(
  sections: readonly ResultSection[],
  { folder, model, flags }: Pick<Answering, 'folder' | 'model' | 'flags'>,
): Promise<void> {
  const path = resolve(flags.html ?? join(await mkdtemp(join(tmpdir(), 'mome-')), 'search.html'));
  const title = sections.length === 1 ? sections[0]!.query : `Searches of ${folder}`;
  const page = await renderResults(title, sections, { folder: dirname(path), model });
  await writeFile(path, page).catch((error: unknown) => {
    const { code } = error as NodeJS.ErrnoException;
    const reason = code === 'ENOSPC' ? 'the disk is full' : `could not (${code})`;
    throw new MomeError('MOME_IO', `${path}: expected to write a page here, ${reason}`, { cause: error });
  });
  if (!flags.open) return;
  const isOpen = await openInBrowser(path);
  if (!isOpen) note(`no browser could be opened; the page is ${pathToFileURL(path).href}`);
  else if (flags.html === undefined && !flags.quiet) note(`the page is ${path}`);
}
