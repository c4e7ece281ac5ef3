/** Training: data sets, the trainer, evaluation. */
export { type WriteOptions, writeModel } from '../checkpoint/index.ts';
export { type InitialScheme, initialParameters } from '../model/initialise.ts';
export type { Objective } from '../model/objectives.ts';
export { loadTokenizer, type Tokenizer } from '../text/tokenizer.ts';
export { expectedCalibrationError, fitCalibration } from './calibrate.ts';
export { type Augmenter, type AugmentOptions, augmentDefaults, augmentOff, createAugmenter } from './data/augment.ts';
export { drawTransform, type NamedAugmentation } from './data/augment-original.ts';
export type { Augmentation, BatchOptions, SkippedItem } from './data/batch-maker.ts';
export {
  type CaptionOptions,
  captionDefaults,
  captionLabelOnly,
  duplicateLabels,
  evaluationCaption,
  sampleCaption,
} from './data/captions.ts';
export { type Dataset, datasetOfPairs, everyText, type Item, joined, type Picture, textsOf } from './data/dataset.ts';
export {
  type EmojiPairs,
  type EmojiStyle,
  emojiStyles,
  flattenOnWhite,
  loadEmoji,
  loadEmojiNames,
  loadEmojiPairs,
  loadEmojiPictures,
  rasterise,
  rasteriseRgba,
} from './data/emoji.ts';
export { BatchLoader, type LoadedBatch, type LoaderOptions, type LoaderStatistics } from './data/loader.ts';
export { type DataKind, type DataSource, dataKinds, openDataset } from './data/open.ts';
export { openPairs, type PairFileOptions } from './data/open-pairs.ts';
export { batchesPerEpoch, everyCaption, type PairDataset, sampleBatches } from './data/pairs.ts';
export {
  answerTargets,
  buildAnswers,
  openVqa,
  readAnswers,
  type VqaDataset,
  type VqaSource,
  writeAnswers,
} from './data/task-items.ts';
export { type Nlvr2Statement, readNlvr2, readVqa, type VqaQuestion } from './data/vqa.ts';
export {
  type EvaluateOptions,
  evaluateRetrieval,
  type FusionWeightFit,
  fitFusionWeight,
  fitMatchCalibration,
  type MatchCalibrationFit,
  type RetrievalReport,
} from './evaluate.ts';
export {
  evaluatePairs,
  type MeanScores,
  type PairsEvaluation,
  type PairsReport,
  type QueryResult,
} from './evaluate-pairs.ts';
export {
  boundsOf,
  evaluateQueries,
  picturesOfFolder,
  picturesOfStyle,
  type QueriesEvaluation,
  type QueriesReport,
  type QueryScores,
  readQueries,
  type SearchedPicture,
  type SearchedQuery,
  type SearchQuery,
  scoresOf,
} from './evaluate-queries.ts';
export {
  type AnsweredQuestion,
  evaluateNlvr2,
  evaluateVqa,
  type JudgedStatement,
  type Nlvr2Evaluation,
  type Nlvr2Report,
  type VqaEvaluation,
  type VqaReport,
} from './evaluate-tasks.ts';
export {
  type ClassifiedPicture,
  evaluateZeroShot,
  type LabelledPicture,
  readClassFolders,
  type ZeroShotEvaluation,
  type ZeroShotReport,
  zeroShotTemplates,
} from './evaluate-zero-shot.ts';
export {
  type FitPatchTokenizerOptions,
  fitPatchTokenizer,
  type PatchTokenizerProgress,
} from './fit-patch-tokenizer.ts';
export { type MaskedText, type MaskingVocabulary, maskBudget, maskWords } from './masking.ts';
export { type BlockMasking, blockMaskingDefaults, maskBlocks, mostMasked } from './masking-blocks.ts';
export { drawHardNegatives } from './mining.ts';
export { namedRecipe, type RecipeName, recipeNames } from './named-recipes.ts';
export { type PatchCentres, PatchTokenizer, type PatchTokenizerOptions } from './patch-tokenizer.ts';
export { type ProcessGroup, singleProcess } from './process-group.ts';
export { launchedByMpi, mpiInfo, openProcessGroup } from './process-group-mpi.ts';
export { createRandom, type Random } from './random.ts';
export { parseRecipe, type Recipe, readRecipe } from './recipe.ts';
export { type ReportSection, writeReport } from './report.ts';
export { type RankedAll, type Recall, rankAll, recall, rerankAll } from './retrieval.ts';
export { type RunOptions, type RunResult, runTraining } from './run.ts';
export type { Scores } from './run-evaluation.ts';
export { decays, learningRateAt, type Schedule } from './schedule.ts';
export type { StartPlan, StartRow } from './start-plan.ts';
export { openStartingModel, type StartingModel } from './starting-model.ts';
export { loadRun, saveRun } from './state.ts';
export {
  type AnswerTargets,
  type StepMetrics,
  Trainer,
  type TrainerOptions,
  type TrainerState,
  type TrainingBatch,
} from './trainer.ts';
export { normaliseAnswer, officialAccuracy } from './vqa-accuracy.ts';
