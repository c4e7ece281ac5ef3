/** Searching pictures. */
export { listImages } from './folder.ts';
export { type ResultSection, renderResults } from './html.ts';
export type { IndexedImage } from './index-file.ts';
export { type BuildOptions, SearchIndex, type SearchOptions, type SearchResult } from './search-index.ts';
