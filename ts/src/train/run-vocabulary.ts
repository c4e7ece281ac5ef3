/** The vocabulary of a run: the one that its recipe names, one learned from its texts, or that of the model it starts from. */
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type ModelFiles, vocabularyOptions } from '../checkpoint/index.ts';
import type { Objective } from '../model/objectives.ts';
import { check } from '../runtime/errors.ts';
import { exists, replaceFile } from '../runtime/files.ts';
import { readText, type TextFile } from '../runtime/input-file.ts';
import { buildVocabulary, type VocabularyOptions } from '../text/vocabulary.ts';
import { type Dataset, textsOf } from './data/dataset.ts';
import { objectiveNeeds } from './objectives/step.ts';
import type { Recipe } from './recipe.ts';

/** Name of a learned vocabulary in the folder of a run. */
export const vocabularyName = 'vocab.txt';

export interface VocabularyPlace {
  /** Paths in the recipe are relative to it. */
  readonly folder: string;
  readonly output: string;
  readonly resume: boolean;
  readonly signal: AbortSignal;
}

/**
 * The file of word pieces that a run uses; undefined for a model that learns from pictures alone.
 *
 * @param start files of the model that the run starts from
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`; `MOME_INVALID_CONFIG` where texts are read and no vocabulary is named
 */
export async function vocabularyOf(
  { vocabulary, phases }: Recipe,
  { folder, output, resume, signal }: VocabularyPlace,
  dataset: Dataset,
  start: ModelFiles | undefined,
): Promise<TextFile | undefined> {
  if (vocabulary === undefined) {
    const found = await start?.readVocabulary();
    check(
      found !== undefined || phases.flatMap(({ objectives }) => objectives).every(isWithoutTexts),
      'MOME_INVALID_CONFIG',
      'recipe: vocabulary: expected a file, or the size of one to learn, got neither, and no vocabulary lies beside the weights to start from',
    );
    return found;
  }
  if (typeof vocabulary === 'string') return readText(resolve(folder, vocabulary), vocabularyOptions);
  const file = join(output, vocabularyName);
  if (!resume || !(await exists(file))) await learnVocabulary(file, vocabulary, textsOf(dataset), signal);
  return readText(file, vocabularyOptions);
}

const isWithoutTexts = (objective: Objective): boolean => objectiveNeeds[objective].withoutTexts ?? false;

/** Learns word pieces and writes them to a file. */
export async function learnVocabulary(
  file: string,
  options: VocabularyOptions,
  texts: Iterable<string> | AsyncIterable<string>,
  signal?: AbortSignal,
): Promise<void> {
  const lines = await buildVocabulary(texts, options, signal);
  await replaceFile(file, (temporary) => writeFile(temporary, `${lines.join('\n')}\n`));
}
