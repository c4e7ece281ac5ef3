/** Checkpoints: reading, explaining and writing them. */
export { isBeit, type ParameterSource, takeOverBeit } from './beit.ts';
export { type Checkpoint, openCheckpoint } from './checkpoint.ts';
export { type Conversion, type ConvertOptions, convertCheckpoint } from './convert.ts';
export { hashFile } from './finite.ts';
export { configOfFile, configToRun, inferConfig } from './infer-config.ts';
export { type CheckpointReport, inspectCheckpoint } from './inspect.ts';
export { type ModelFiles, openModelFiles, vocabularyOptions } from './model-files.ts';
export type { MatchCalibration } from './model-settings.ts';
export { loadParameterValues, type TakenParameters, takeParameters, valuesOf } from './parameters.ts';
export { resizeAbsolutePositions, resizeRelativeTable } from './resize-positions.ts';
export { openSafetensors, type SafetensorsFile, type TensorToWrite, writeSafetensors } from './safetensors.ts';
export { readElements, readIntegers, readTensor, type TensorEntry, type TensorType } from './tensors.ts';
export { type WriteOptions, writeCalibration, writeModel } from './write-model.ts';
