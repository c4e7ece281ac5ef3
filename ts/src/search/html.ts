/** Search results as one HTML page that needs nothing else: small pictures, style and script are inside it. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import pLimit from 'p-limit';
import type { ImageInput } from '../inference/index.ts';
import { type Kinds, kinds, takeList, takeOptions } from '../runtime/arguments.ts';
import { MomeError } from '../runtime/errors.ts';
import { packageRoot } from '../runtime/package-files.ts';
import { printable } from '../runtime/printable.ts';
import type { SearchResult } from './search-index.ts';
import { thumbnailOf } from './thumbnail.ts';
import { fileName, matchInWords, moveInWords, scoresAsText } from './words.ts';

/** Side of a thumbnail in pixels: sharp on a phone too, whose pixels are small. */
const thumbnailSide = 224;
/** Pictures decoded at the same time: each is whole in memory until its thumbnail is made. */
const limit = pLimit(2);

/** A result as it is shown: with its cosine or, where that is missing, its score. */
export type ShownResult = Pick<SearchResult, 'path' | 'score' | 'match'> & Partial<SearchResult>;

/** One query and what was found. */
export interface ResultSection {
  readonly query: string;
  /** Picture of the query, when it was one. */
  readonly queryImage?: ImageInput;
  readonly results: readonly ShownResult[];
  /** Order before re-ranking, when it is to be shown beside. */
  readonly before?: readonly ShownResult[];
  /** Text under each picture; default: the file name. */
  readonly caption?: (path: string) => string;
  /** Pictures that were searched. */
  readonly among?: number;
  /** Milliseconds that the search took. */
  readonly milliseconds?: number;
}

/** What a page says and links to beside its sections. */
export interface ResultPageOptions {
  /** Folder in which the page will lie: pictures link to their files as seen from there. Default: no links. */
  readonly folder?: string;
  /** Name of the model that searched. */
  readonly model?: string;
}

const pageKinds: Kinds<ResultPageOptions> = { folder: kinds.text, model: kinds.text };

/**
 * Renders sections. Pictures are upright, as the model sees them; those that cannot be read are shown as a note. A page with one section
 * whose query is the title has no second heading.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT`; `MOME_NOT_FOUND` where the package lacks the files of the page
 */
export async function renderResults(
  title: string,
  sections: readonly ResultSection[],
  options?: ResultPageOptions,
): Promise<string> {
  for (const { results } of takeList('renderResults', sections, 'sections', 'section') as ResultSection[])
    takeList('renderResults', results, 'results', 'result');
  const { folder, model } = takeOptions('renderResults', options, pageKinds);
  const [style, script] = await Promise.all(['results.css', 'results.js'].map(partOfPage));
  const isTitled = sections.length === 1 && sections[0]!.query === title;
  const parts = await Promise.all(
    sections.map((section, i) =>
      isTitled ? renderSection(section, i, folder, { model }) : renderSection(section, i, folder, {}),
    ),
  );
  const about = isTitled
    ? []
    : [
        ...(sections.length > 1 ? [`${sections.length} searches`] : []),
        ...(model === undefined ? [] : [`model ${model}`]),
      ];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy(style!, script!)}">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
<header class="top"><div><h1>${escapeHtml(title)}</h1>${about.length > 0 ? `<p class="about">${escapeHtml(about.join(' · '))}</p>` : ''}</div>
<form id="find" role="search" hidden><span id="count" role="status"></span><input id="filter" type="search" aria-label="Show only names with these words" placeholder="Filter by name  ( / )" autocomplete="off" spellcheck="false"></form></header>
<main>
${parts.join('\n')}
</main>
<dialog id="large" aria-labelledby="large-title"><div class="inside"><div><h2 class="title" id="large-title"></h2><button type="button" class="close">Close</button></div><img class="picture" alt=""><ul class="facts"></ul><div><a class="file">Open the file</a><span class="steps"><button type="button" data-step="-1">← Previous</button><button type="button" data-step="1">Next →</button></span></div></div></dialog>
<script type="module">${script}</script>
</html>
`;
}

/**
 * Nothing but the style, the script and the pictures of this page may be loaded or run: whatever a name holds, a browser does not act on
 * it. `file:` are pictures beside a page that lies on a disk.
 */
function policy(style: string, script: string): string {
  const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  return [
    "default-src 'none'",
    "img-src 'self' data: file:",
    `style-src ${hash(style)}`,
    `script-src ${hash(script)}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
}

async function partOfPage(name: string): Promise<string> {
  const path = join(packageRoot(), 'dist', 'page', name);
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    throw new MomeError('MOME_NOT_FOUND', `renderResults: expected a file of the page, got none at ${path}`, {
      cause: error,
    });
  }
}

/** @param only of a section that is all of the page: its title says the query, and the section names the model */
async function renderSection(
  section: ResultSection,
  number: number,
  folder: string | undefined,
  only: { readonly model?: string | undefined },
): Promise<string> {
  const { queryImage, results, before } = section;
  const id = `query-${number}`;
  const isReranked = results.some(({ match }) => match !== null);
  const picture =
    queryImage === undefined
      ? ''
      : await thumbnail(queryImage, 'class="query" alt="The picture that was looked for"').catch(
          () => '<p class="query gone">cannot be shown</p>',
        );
  return [
    'model' in only
      ? `<section aria-label="${escapeHtml(section.query)}">`
      : `<section aria-labelledby="${id}"><h2 id="${id}">${escapeHtml(section.query)}</h2>`,
    picture,
    `<p class="about">${escapeHtml([...countsOf(section), ...(only.model === undefined ? [] : [`model ${only.model}`])].join(' · '))}</p>`,
    before ? `<h3>Dual encoder alone</h3>${await renderList(before, section, folder, 'results before', false)}` : '',
    before ? '<h3>After fusion re-ranking</h3>' : '',
    results.length > 0 ? `<p class="order">${orderInWords(isReranked)}</p>` : '',
    await renderList(results, section, folder, 'results', isReranked),
    '</section>',
  ].join('');
}

function countsOf({ results, among, milliseconds }: ResultSection): string[] {
  const count = among === undefined ? `${results.length}` : `${results.length} of ${among}`;
  const counted = `${count} ${(among ?? results.length) === 1 ? 'picture' : 'pictures'}`;
  if (milliseconds === undefined) return [counted];
  return [counted, milliseconds < 1000 ? `${Math.ceil(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`];
}

/** Why results stand in their order. */
export const orderInWords = (isReranked: boolean): string =>
  isReranked
    ? 'In the order of the score, which weighs cosine and match: how near the vectors are, and how well text and picture fit when they are read together.'
    : 'In the order of the cosine: how near the vectors are.';

async function renderList(
  results: readonly ShownResult[],
  { caption = fileName }: ResultSection,
  folder: string | undefined,
  className: string,
  isReranked: boolean,
): Promise<string> {
  const items = await Promise.all(
    results.map(async ({ path, score, similarity = score, match, dualRank }, place) => {
      const name = escapeHtml(caption(path));
      const href = folder === undefined ? undefined : linkTo(path, folder);
      const image = await thumbnail(path, `alt="${name}" loading="lazy"`).catch(
        () => '<span class="gone">cannot be shown</span>',
      );
      const move = isReranked && match !== null && dualRank !== undefined ? moveOf(dualRank, place) : '';
      return [
        '<li>',
        href === undefined
          ? `<button type="button" class="zoom">${image}</button>`
          : `<a class="zoom" href="${href}">${image}</a>`,
        `<div class="place"><span class="rank" aria-label="Place ${place + 1}">${place + 1}</span>${move}</div>`,
        href === undefined
          ? `<bdi class="name">${name}</bdi>`
          : `<a class="name" href="${href}"><bdi>${name}</bdi></a>`,
        isReranked ? `<span class="says">${matchInWords(match)}</span>` : '',
        `<span class="numbers">${scoresAsText(similarity, match)}</span>`,
        '</li>',
      ].join('');
    }),
  );
  return `<ol class="${className}">${items.join('')}</ol><p class="none" hidden>No name of these has the words.</p>`;
}

function moveOf(before: number, place: number): string {
  const direction = before === place ? '' : before > place ? ' up' : ' down';
  return `<span class="move${direction}" aria-label="${moveInWords(before, place)} by re-ranking">${direction === ' up' ? '▲ ' : direction === ' down' ? '▼ ' : ''}${moveInWords(before, place)}</span>`;
}

/** The address of a picture as seen from `folder`, safe in an attribute; nothing for what is no file. */
function linkTo(path: string, folder: string): string | undefined {
  const isFileUrl = /^file:/i.test(path);
  if (!isFileUrl && /^[a-z][a-z0-9+.-]+:/i.test(path)) return undefined;
  try {
    const steps = relative(resolve(folder), isFileUrl ? fileURLToPath(path) : resolve(path)).split(sep);
    return `./${steps.map(encodeURIComponent).join('/').replaceAll("'", '%27')}`;
  } catch {
    return undefined; // no address can name it
  }
}

/** @param attributes of the element @throws MomeError for a picture that cannot be read */
async function thumbnail(image: ImageInput, attributes: string): Promise<string> {
  const bytes = await limit(() => thumbnailOf(image, thumbnailSide));
  return `<img ${attributes} src="data:image/webp;base64,${bytes.toString('base64')}">`;
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Makes text safe inside HTML and attributes; characters that are not shown as themselves become escapes. */
function escapeHtml(text: string): string {
  return printable(text).replace(/[&<>"']/g, (character) => entities[character]!);
}
