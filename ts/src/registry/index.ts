/** Official models by name. */
export { listModels, type ModelEntry, modelPath, type PullOptions, pullModel, removeModel } from './pull.ts';
