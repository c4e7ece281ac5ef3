/** `mome/server`: models behind HTTP, in the protocols of OpenAI, Cohere, Jina, TEI and the Open Inference Protocol. */
export { defaultLimits, mostJsonBytes, type ServerLimits, type ServerOptions } from './options.ts';
export type { PictureOf, ServableIndex } from './served-index.ts';
export { createServer, type MomeServer } from './server.ts';
