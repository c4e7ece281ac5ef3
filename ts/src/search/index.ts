/** Searching pictures. */
export { imageEndings, listImages } from './folder.ts';
export { escapeHtml, type ResultSection, renderResults } from './html.ts';
export {
  type BuildOptions,
  type IndexedImage,
  SearchIndex,
  type SearchOptions,
  type SearchResult,
} from './search-index.ts';
