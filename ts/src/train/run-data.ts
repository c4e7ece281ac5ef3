/** The data of a run: opened once, and read as batches by each phase. */
import { resolve } from 'node:path';
import type { VlmoConfig } from '../architecture/config.ts';
import { check } from '../runtime/errors.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { augmentDefaults } from './data/augment.ts';
import { captionDefaults } from './data/captions.ts';
import { type Dataset, datasetOfPairs, textsOf } from './data/dataset.ts';
import { loadEmojiPairs } from './data/emoji.ts';
import { BatchLoader } from './data/loader.ts';
import { type DataKind, type DataSource, openDataset } from './data/open.ts';
import type { BatchPosition } from './data/pairs.ts';
import type { ColumnNames } from './data/row-items.ts';
import { buildAnswers, readAnswers } from './data/task-items.ts';
import { objectiveNeeds } from './objectives/step.ts';
import type { ProcessGroup } from './process-group.ts';
import type { Phase, Recipe } from './recipe.ts';
import type { DataDescription } from './recipe-schema.ts';
import { requireEvaluation } from './run-evaluation.ts';

export interface RunData {
  readonly dataset: Dataset;
  /** The answers that the items of questions count. */
  readonly answers: readonly string[] | undefined;
}

/**
 * Opens the data of a recipe.
 *
 * @param folder paths in the recipe are relative to it
 * @param imageSize side of the model's pictures
 * @param answers of the model that the run starts from
 */
export async function openRunData(
  recipe: Recipe,
  folder: string,
  imageSize: number,
  answers?: readonly string[],
): Promise<RunData> {
  const { data } = recipe;
  if ('emoji' in data) {
    const size = recipe.sourceSize ?? Math.round(1.5 * imageSize);
    const pairs = await loadEmojiPairs({ styles: data.emoji, size, cacheDir: resolve(folder, '.cache') });
    return { dataset: datasetOfPairs(pairs), answers: undefined };
  }
  const list = 'questions' in data ? await answersOf(data, folder, answers) : undefined;
  const dataset = await openDataset(sourceOf(data, folder, recipe.captionItems, list));
  return { dataset, answers: list };
}

/** Data of files, as their reader takes them. */
export function sourceOf(
  data: Exclude<DataDescription, { emoji: unknown }>,
  folder: string,
  captionItems: Recipe['captionItems'],
  answers?: readonly string[],
): DataSource {
  const at = (paths: string | readonly string[]) => [paths].flat().map((each) => resolve(folder, each));
  const images = 'images' in data && data.images !== undefined ? { images: resolve(folder, data.images) } : {};
  const columns = 'columns' in data && data.columns ? { columns: data.columns as ColumnNames } : {};
  const repeat = 'repeat' in data && data.repeat ? { repeat: data.repeat } : {};
  if ('pairs' in data) {
    const { pairs, kind, splits } = data;
    return {
      files: at(pairs),
      captionItems,
      ...images,
      ...columns,
      ...repeat,
      ...(kind && { kind }),
      ...(splits && { splits }),
    };
  }
  if ('pictures' in data)
    return { files: at(data.pictures), ...columns, ...repeat, ...kindUnlessTold(data.pictures, 'pictures') };
  if ('texts' in data) {
    const { texts, unit } = data;
    return { files: at(texts), ...columns, ...(unit && { unit }), ...kindUnlessTold(texts, 'text') };
  }
  if ('statements' in data)
    return { files: at(data.statements), ...images, ...kindUnlessTable(data.statements, 'nlvr2') };
  const { questions, annotations, leaveOutLast } = data;
  return {
    files: at(questions),
    ...kindUnlessTable(questions, 'vqa'),
    ...images,
    ...(annotations && { annotations: at(annotations) }),
    ...(answers && { answers }),
    ...(leaveOutLast !== undefined && { leaveOutLast }),
  };
}

/** Extensions that tell what a file holds. */
const tables = /\.(?:arrow|parquet)$/i;
const told = /\.(?:arrow|parquet|tar|jsonl|ndjson|csv|json)$/i;

const kindUnless = (known: RegExp) => (paths: string | readonly string[], kind: DataKind) =>
  [paths].flat().every((each) => known.test(each)) ? {} : { kind };
const kindUnlessTold = kindUnless(told);
const kindUnlessTable = kindUnless(tables);

/** The list of answers that questions are asked for. */
async function answersOf(
  { answers, annotations, questions }: Extract<DataDescription, { questions: unknown }>,
  folder: string,
  known: readonly string[] | undefined,
): Promise<readonly string[]> {
  if (typeof answers === 'string') return readAnswers(resolve(folder, answers));
  if (answers === undefined && known) return known;
  check(
    annotations !== undefined,
    'MOME_INVALID_CONFIG',
    `recipe: data.answers: expected a list of answers for ${[questions].flat()[0]}, or annotations to make one of`,
  );
  const made = await buildAnswers(
    [annotations].flat().map((file) => resolve(folder, file)),
    answers ?? {},
  );
  check(
    made.length > 0,
    'MOME_INVALID_FILE',
    `${[annotations].flat()[0]}: expected answers that are those of ${answers?.fewest ?? 9} questions or more, got none; data.answers.fewest sets the number`,
  );
  return made;
}

/**
 * Opens and closes the data of a recipe, and looks for those that it is measured on.
 *
 * @throws MomeError as {@link openRunData} and `requireEvaluation`
 */
export async function requireData(recipe: Recipe, folder: string): Promise<void> {
  const { data, evaluation } = recipe;
  if (evaluation) await requireEvaluation(evaluation, folder);
  if ('emoji' in data) return;
  // Questions without a list of answers have that of a model which is not there yet.
  if ('questions' in data && data.answers === undefined && data.annotations === undefined) return;
  (await openRunData(recipe, folder, 1)).dataset.close();
}

/** All texts of a recipe's data, for learning a vocabulary. */
export async function* textsOfData(recipe: Recipe, folder: string): AsyncGenerator<string, void> {
  const { dataset } = await openRunData(recipe, folder, 1);
  try {
    yield* textsOf(dataset);
  } finally {
    dataset.close();
  }
}

/** Whether any objective of a phase reads texts, and whether any reads pictures. */
function needsOf({ objectives }: Phase): { readonly texts: boolean; readonly pictures: boolean } {
  const needs = objectives.map((objective) => objectiveNeeds[objective]);
  return {
    texts: needs.some(({ withoutTexts }) => !withoutTexts),
    pictures: needs.some(({ picturesPerText }) => picturesPerText > 0),
  };
}

const noTokenizer: Pick<Tokenizer, 'encode'> = { encode: () => new Int32Array(0) };

/** The batches of a phase. */
export function openLoader(
  { dataset }: RunData,
  recipe: Recipe,
  phase: Phase,
  from: BatchPosition,
  config: VlmoConfig,
  tokenizer: Tokenizer | undefined,
  group: Pick<ProcessGroup, 'rank' | 'size'>,
): BatchLoader {
  const { batchSize, seed, neighbours, maxSkippedShare, sourceSize, augment, pictureRules } = recipe;
  return new BatchLoader(dataset, {
    ...needsOf(phase),
    config,
    tokenizer: tokenizer ?? noTokenizer,
    batchSize,
    rank: group.rank,
    ranks: group.size,
    seed,
    neighbours,
    from,
    maxSkippedShare,
    pictureRules,
    augment: typeof augment === 'string' ? augment : { ...augmentDefaults, ...augment },
    captions: { ...captionDefaults, ...recipe.captions },
    ...(sourceSize !== undefined && { sourceSize }),
  });
}
