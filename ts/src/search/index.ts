/** Searching pictures. */
export { imageEndings, listImages } from './folder.ts';
export { escapeHtml, renderResults, type ResultSection } from './html.ts';
export { type BuildOptions, type IndexedImage, SearchIndex, type SearchOptions, type SearchResult } from './search-index.ts';
