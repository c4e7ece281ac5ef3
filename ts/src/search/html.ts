/** Search results as one HTML page that needs nothing else: pictures are inside it. */
import pLimit from 'p-limit';
import type { ImageInput } from '../inference/vlmo.ts';
import { takeList } from '../runtime/arguments.ts';
import { printable } from '../runtime/printable.ts';
import type { SearchResult } from './search-index.ts';
import { thumbnailOf } from './thumbnail.ts';
import { fileName, scoresAsText } from './words.ts';

/** Side of a thumbnail in pixels. */
const thumbnailSide = 128;
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
}

/** Renders sections. Pictures are upright, as the model sees them; those that cannot be read are shown as a note. */
export async function renderResults(title: string, sections: readonly ResultSection[]): Promise<string> {
  for (const { results } of takeList('renderResults', sections, 'sections', 'section') as ResultSection[])
    takeList('renderResults', results, 'results', 'result');
  const parts = await Promise.all(sections.map(renderSection));
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222; background: #fafafa }
h2 { margin-top: 2.5rem } h3 { color: #666; font-size: 0.9rem; margin: 1rem 0 0.3rem }
ol { display: flex; flex-wrap: wrap; gap: 0.75rem; list-style: none; padding: 0; margin: 0 }
li { width: 9.5rem; background: #fff; border: 1px solid #ddd; border-radius: 0.5rem; padding: 0.5rem; text-align: center }
img { width: 8rem; height: 8rem; object-fit: contain } .score { color: #777; font-size: 0.8rem } .name { overflow-wrap: anywhere }
</style>
<h1>${escapeHtml(title)}</h1>
${parts.join('\n')}
</html>
`;
}

async function renderSection({
  query,
  queryImage,
  results,
  before,
  caption = fileName,
}: ResultSection): Promise<string> {
  const picture = queryImage === undefined ? '' : `<p>${await thumbnail(queryImage)}</p>`;
  const lists = [
    before ? `<h3>dual encoder alone</h3>${await renderList(before, caption)}` : '',
    before ? '<h3>after fusion re-ranking</h3>' : '',
  ];
  return `<h2>${escapeHtml(query)}</h2>${picture}${lists.join('')}${await renderList(results, caption)}`;
}

async function renderList(results: readonly ShownResult[], caption: (path: string) => string): Promise<string> {
  const items = await Promise.all(
    results.map(async ({ path, score, similarity = score, match }) => {
      const scores = scoresAsText(similarity, match);
      return `<li>${await thumbnail(path)}<div class="name">${escapeHtml(caption(path))}</div><div class="score">${scores}</div></li>`;
    }),
  );
  return `<ol>${items.join('')}</ol>`;
}

async function thumbnail(image: ImageInput): Promise<string> {
  try {
    const bytes = await limit(() => thumbnailOf(image, thumbnailSide));
    return `<img alt="" src="data:image/webp;base64,${bytes.toString('base64')}">`;
  } catch {
    return '<p>(cannot be shown)</p>';
  }
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
