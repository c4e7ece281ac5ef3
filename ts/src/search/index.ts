/** Searching pictures. */
export type { IndexedImage } from './content.ts';
export type { DiskContents } from './disk-file.ts';
export { DiskIndex, type DiskOpenOptions, type DiskSearchOptions } from './disk-index.ts';
export { type FolderPictures, type LeftOut, listImages, scanFolder } from './folder.ts';
export { type ResultPageOptions, type ResultSection, renderResults, type ShownResult } from './html.ts';
export type { EmbeddedImage } from './journal.ts';
export type { QueryOptions, SearchModel, SearchQuery } from './query.ts';
export {
  type BuildOptions,
  type OpenOptions,
  type SaveOptions,
  SearchIndex,
  type SearchOptions,
  type SearchResult,
} from './search-index.ts';
export * from './stores/index.ts';
