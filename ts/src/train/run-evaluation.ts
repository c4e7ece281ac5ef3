/** How good the model of a run is on held-out data: numbers for its metrics, and the one that says which of its models is the best. */
import { resolve } from 'node:path';
import { Vlmo } from '../inference/index.ts';
import type { Objective } from '../model/objectives.ts';
import { check } from '../runtime/errors.ts';
import { exists } from '../runtime/files.ts';
import { openPairs } from './data/open-pairs.ts';
import type { ColumnNames } from './data/row-items.ts';
import { readNlvr2, readVqa } from './data/vqa.ts';
import { evaluateRetrieval } from './evaluate.ts';
import { evaluatePairs } from './evaluate-pairs.ts';
import { evaluateNlvr2, evaluateVqa } from './evaluate-tasks.ts';
import type { DataDescription } from './recipe-schema.ts';
import type { Recall } from './retrieval.ts';

/** Scores by their names, shares from 0 to 1. The first is the one that the best model has the highest of. */
export type Scores = Readonly<Record<string, number>>;

/**
 * Measures a model folder.
 *
 * @param data held-out pairs, drawings, questions or statements
 * @param folder paths in `data` are relative to it
 * @throws MomeError as the readers and evaluations; `MOME_INVALID_CONFIG` for data that no evaluation takes
 */
export async function evaluateModel(
  modelFolder: string,
  data: DataDescription,
  folder: string,
  signal?: AbortSignal,
): Promise<Scores> {
  await requireEvaluation(data, folder);
  const model = await Vlmo.load(modelFolder);
  const aborts = signal ? { signal } : {};
  try {
    if ('emoji' in data) {
      const { dual } = await evaluateRetrieval({ model, k: 0, ...aborts });
      return recallScores(dual.textToImage, dual.imageToText);
    }
    if ('pairs' in data) {
      const dataset = await openPairs(resolve(folder, only(data.pairs, 'pairs')), {
        size: model.config.imageSize,
        ...(data.images !== undefined && { images: resolve(folder, data.images) }),
        ...(data.splits && { splits: data.splits }),
        ...(data.columns && { columns: data.columns as ColumnNames }),
      });
      try {
        const { dual } = await evaluatePairs({ model, dataset, k: 0, ...aborts });
        return recallScores(dual.textToImage, dual.imageToText);
      } finally {
        dataset.close?.();
      }
    }
    if ('questions' in data) {
      const questions = await readVqa(resolve(folder, only(data.questions, 'questions')), {
        images: resolve(folder, data.images!),
        annotations: resolve(folder, only(data.annotations!, 'annotations')),
      });
      const { accuracy, softScore } = await evaluateVqa({ model, questions, ...aborts });
      return { softScore: softScore ?? 0, accuracy: accuracy ?? 0 };
    }
    check('statements' in data, 'MOME_INTERNAL', 'evaluation: expected statements');
    const statements = await readNlvr2(resolve(folder, only(data.statements, 'statements')), {
      images: resolve(folder, data.images!),
    });
    const { accuracy, consistency } = await evaluateNlvr2({ model, statements, ...aborts });
    return { accuracy: accuracy ?? 0, ...(consistency !== null && { consistency }) };
  } finally {
    await model.dispose();
  }
}

/**
 * Refuses data that no evaluation takes, before a run has made the model that they would measure.
 *
 * @throws MomeError `MOME_INVALID_CONFIG`; `MOME_NOT_FOUND` for files that are not there
 */
export async function requireEvaluation(data: DataDescription, folder: string): Promise<void> {
  if ('emoji' in data) return;
  check(
    'pairs' in data || 'questions' in data || ('statements' in data && data.images !== undefined),
    'MOME_INVALID_CONFIG',
    'recipe: evaluation: expected pairs, questions, or statements with images',
  );
  const paths: string[] = [];
  if ('pairs' in data) paths.push(only(data.pairs, 'pairs'));
  if ('statements' in data) paths.push(only(data.statements, 'statements'));
  if ('questions' in data) {
    check(
      data.images !== undefined && data.annotations !== undefined,
      'MOME_INVALID_CONFIG',
      'recipe: evaluation: expected images and annotations beside questions',
    );
    paths.push(only(data.questions, 'questions'), only(data.annotations, 'annotations'));
  }
  if (data.images !== undefined) paths.push(data.images);
  for (const path of paths.map((each) => resolve(folder, each)))
    check(await exists(path), 'MOME_NOT_FOUND', `recipe: evaluation: expected ${path}, found nothing`);
}

/** The head that an evaluation reads: what it is called, the objectives that train it, and how its parameters begin. */
const headOf = (data: DataDescription): readonly [string, readonly Objective[], string] =>
  'questions' in data
    ? ['answer', ['vqa'], 'vqa_classifier.']
    : 'statements' in data
      ? ['statement', ['nlvr2'], 'nlvr2_classifier.']
      : ['contrastive', ['itc', 'irtr'], 'itc_'];

/**
 * Refuses data that the model of a run will have no head for.
 *
 * @param objectives of all phases
 * @param given the parameters that the run starts from
 * @throws MomeError `MOME_INVALID_CONFIG`
 */
export function requireHead(data: DataDescription, objectives: readonly Objective[], given: Iterable<string>): void {
  const [name, trainedBy, prefix] = headOf(data);
  check(
    trainedBy.some((objective) => objectives.includes(objective)) ||
      [...given].some((parameter) => parameter.startsWith(prefix)),
    'MOME_INVALID_CONFIG',
    `recipe: evaluation: expected data for a head that the run trains or starts from, got data for the ${name} head`,
  );
}

function only(paths: string | readonly string[], what: string): string {
  const [first, ...more] = typeof paths === 'string' ? [paths] : paths;
  check(
    first !== undefined && more.length === 0,
    'MOME_INVALID_CONFIG',
    `recipe: evaluation: expected one file as ${what}, got ${1 + more.length}`,
  );
  return first;
}

/** Recall in both directions; its mean first. */
function recallScores(textToImage: Recall, imageToText: Recall): Scores {
  const named = { ...namedRecall('textToImage', textToImage), ...namedRecall('imageToText', imageToText) };
  const values = Object.values(named);
  return { meanRecall: values.reduce((sum, value) => sum + value, 0) / values.length, ...named };
}

const namedRecall = (direction: string, { r1, r5, r10 }: Recall): Scores => ({
  [`${direction}.r1`]: r1,
  [`${direction}.r5`]: r5,
  [`${direction}.r10`]: r10,
});
