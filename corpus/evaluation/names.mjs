/** What a search by file name gives: BM25 on the names of the pictures. */
import MiniSearch from 'minisearch';
import { scoresOf } from '../../dist/train.mjs';
import { wordsOf } from './held-out.mjs';

/**
 * Scores of BM25 on names, as `evaluateQueries` counts. A query none of whose words is in any name finds nothing.
 *
 * @param pictures `{ name, title }`: what queries call it by, and the words of its file name
 * @param queries `{ query, right }`
 */
export function searchByName(pictures, queries) {
  const index = new MiniSearch({ fields: ['title'], tokenize: wordsOf, processTerm: (term) => term });
  index.addAll(pictures.map(({ title }, id) => ({ id, title })));
  const places = new Map(pictures.map(({ name }, place) => [name, place]));
  const rankings = queries.map(({ query }) =>
    index
      .search(query)
      .slice(0, 10)
      .map(({ id }) => id),
  );
  return scoresOf(
    rankings,
    queries.map(({ right }) => new Set(right.map((name) => places.get(name)))),
  );
}
