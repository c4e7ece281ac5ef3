/** Searching pictures. */
export type { IndexedImage } from './content.ts';
export { type FolderPictures, type LeftOut, listImages, scanFolder } from './folder.ts';
export { type ResultSection, renderResults, type ShownResult } from './html.ts';
export type { QueryOptions, SearchModel, SearchQuery } from './query.ts';
export {
  type BuildOptions,
  type OpenOptions,
  SearchIndex,
  type SearchOptions,
  type SearchResult,
} from './search-index.ts';
