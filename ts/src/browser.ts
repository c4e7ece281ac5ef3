/**
 * What a browser gets in place of the library: everything here refuses at its first use and says where it runs instead. The library is
 * native code and reads files, which no browser does; a bundle that imports it builds all the same, as code for both sides has to.
 *
 * The names are those of `index.ts`, which a test compares.
 */
import { MomeError as CodedError } from './runtime/errors.ts';

/** Stands for an export: calling, constructing, reading or extending it throws. */
function onServer(name: string): unknown {
  function refuse(): never {
    throw new CodedError(
      'MOME_UNSUPPORTED',
      `${name}: expected Node.js, got a browser: mome is native code and does not run there; run "mome serve" on a server and call it over HTTP`,
    );
  }
  // Whatever is done to the export asks the handler for a trap, and every trap refuses.
  return new Proxy(refuse, new Proxy({}, { get: () => refuse }));
}

export const Batcher = /* @__PURE__ */ onServer('Batcher');
export const BatcherRequest = /* @__PURE__ */ onServer('BatcherRequest');
export const DiskIndex = /* @__PURE__ */ onServer('DiskIndex');
export const MomeError = /* @__PURE__ */ onServer('MomeError');
export const SearchIndex = /* @__PURE__ */ onServer('SearchIndex');
export const VectorStore = /* @__PURE__ */ onServer('VectorStore');
export const Vlmo = /* @__PURE__ */ onServer('Vlmo');
export const convertCheckpoint = /* @__PURE__ */ onServer('convertCheckpoint');
export const cosineSimilarity = /* @__PURE__ */ onServer('cosineSimilarity');
export const diagnose = /* @__PURE__ */ onServer('diagnose');
export const errorCodes = /* @__PURE__ */ onServer('errorCodes');
export const exactBackend = /* @__PURE__ */ onServer('exactBackend');
export const exportOnnx = /* @__PURE__ */ onServer('exportOnnx');
export const fusedScore = /* @__PURE__ */ onServer('fusedScore');
export const hammingDistance = /* @__PURE__ */ onServer('hammingDistance');
export const inspectCheckpoint = /* @__PURE__ */ onServer('inspectCheckpoint');
export const listImages = /* @__PURE__ */ onServer('listImages');
export const listModels = /* @__PURE__ */ onServer('listModels');
export const postgresBackend = /* @__PURE__ */ onServer('postgresBackend');
export const presets = /* @__PURE__ */ onServer('presets');
export const pullModel = /* @__PURE__ */ onServer('pullModel');
export const quantizeEmbeddings = /* @__PURE__ */ onServer('quantizeEmbeddings');
export const removeModel = /* @__PURE__ */ onServer('removeModel');
export const renderResults = /* @__PURE__ */ onServer('renderResults');
export const scanFolder = /* @__PURE__ */ onServer('scanFolder');
export const shortName = /* @__PURE__ */ onServer('shortName');
export const sqliteBackend = /* @__PURE__ */ onServer('sqliteBackend');
export const verifyCase = /* @__PURE__ */ onServer('verifyCase');
