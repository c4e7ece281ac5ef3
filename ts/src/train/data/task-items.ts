/**
 * Questions with answers and statements about two pictures as training reads them, and the list of answers that a model chooses from.
 */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { check } from '../../runtime/errors.ts';
import { replaceFile } from '../../runtime/files.ts';
import { readText } from '../../runtime/input-file.ts';
import { type JsonLimits, parseJson } from '../../runtime/json.ts';
import { jsonItems } from '../../runtime/json-items.ts';
import { Pace } from '../../runtime/pace.ts';
import type { AnswerTargets } from '../objectives/step.ts';
import { normaliseAnswer } from '../vqa-accuracy.ts';
import type { Dataset } from './dataset.ts';
import { datasetOfFiles, type FileItem } from './file-items.ts';
import { parsed, readNlvr2, readVqa } from './vqa.ts';

/** How right an answer is that so many people gave; of four and more, 1. */
const scoresByCount = [0, 0.3, 0.6, 0.9];
/** Times that an answer must be the majority's to be in the list; the original's. */
const fewestUses = 9;
const answerLimits: JsonLimits = { bytes: 2 ** 24, depth: 4, values: 2 ** 17 };
const annotationSchema = z.object({ multiple_choice_answer: z.string().max(2 ** 14) });

/**
 * The answers that a model of VQA v2 chooses from: the most given answers to questions, in one spelling, that are those of at least
 * `options.fewest` questions, in the order in which they first appear. That of training and validation together has 3,129.
 *
 * @param annotations such as `v2_mscoco_train2014_annotations.json` and `v2_mscoco_val2014_annotations.json`
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE` with the number of the annotation, `MOME_TOO_LARGE`
 */
export async function buildAnswers(
  annotations: readonly string[],
  options: { readonly fewest?: number } = {},
): Promise<string[]> {
  const { fewest = fewestUses } = options;
  const uses = new Map<string, number>();
  for (const file of annotations) {
    let index = 0;
    for await (const value of jsonItems(file, 'a file of answers', { list: 'annotations', depth: 8, bytes: 2 ** 30 })) {
      const { multiple_choice_answer } = parsed(annotationSchema, value, `${file}: annotation ${index++}`);
      const answer = normaliseAnswer(multiple_choice_answer);
      uses.set(answer, (uses.get(answer) ?? 0) + 1);
    }
  }
  return [...uses].filter(([, count]) => count >= fewest).map(([answer]) => answer);
}

/** Writes a list of answers: `.txt` with one a line, else JSON. */
export async function writeAnswers(file: string, answers: readonly string[]): Promise<void> {
  const text = path.extname(file) === '.txt' ? answers.join('\n') : JSON.stringify(answers);
  await replaceFile(file, (temporary) => writeFile(temporary, `${text}\n`));
}

/** Reads what {@link writeAnswers} wrote. @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE` for other files and answers that stand in it twice */
export async function readAnswers(file: string): Promise<string[]> {
  const { text } = await readText(file, { what: 'a list of answers', maxBytes: answerLimits.bytes });
  const isText = path.extname(file) === '.txt';
  const value = isText ? text.split(/\r?\n/).filter((line) => line !== '') : await parseJson(text, file, answerLimits);
  check(
    Array.isArray(value) && value.length > 0 && value.every((each): each is string => typeof each === 'string'),
    'MOME_INVALID_FILE',
    `${file}: expected a list of texts, got another value`,
  );
  check(new Set(value).size === value.length, 'MOME_INVALID_FILE', `${file}: expected each answer once, got one twice`);
  return value;
}

/**
 * Answers of people as targets: 0.3, 0.6, 0.9 and 1 for one, two, three, and four or more who agree. As in the original, the answers are
 * compared as they were written, and those that are not in the list are left out.
 *
 * @param labels place of each answer in the list
 */
export function answerTargets(given: readonly string[], labels: ReadonlyMap<string, number>): AnswerTargets {
  const counts = new Map<number, number>();
  for (const answer of given) {
    const label = labels.get(answer);
    if (label !== undefined) counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return { labels: [...counts.keys()], scores: [...counts.values()].map((count) => scoresByCount[count] ?? 1) };
}

export interface VqaSource {
  /** Files of questions. */
  readonly questions: readonly string[];
  /** Files of annotations, one for each file of questions. */
  readonly annotations: readonly string[];
  /** Folder of the pictures. */
  readonly images: string;
  /** The list of answers: a file, or the answers. */
  readonly answers: string | readonly string[];
  /** Leaves out questions about the pictures with the highest numbers, so many of each file: the original holds 1,000 of validation back. */
  readonly leaveOutLast?: number;
}

/** Questions, and how many have no answer of the list and were left out. */
export interface VqaDataset extends Dataset {
  readonly withoutLabel: number;
}

/** @throws MomeError as `readVqa`; a picture that is not there is a damaged item */
export async function openVqa(source: VqaSource): Promise<VqaDataset> {
  const { questions, annotations, images, answers, leaveOutLast = 0 } = source;
  check(
    questions.length === annotations.length,
    'MOME_INVALID_ARGUMENT',
    `vqa: expected a file of annotations for each of ${questions.length} files of questions, got ${annotations.length}`,
  );
  const list = typeof answers === 'string' ? await readAnswers(answers) : answers;
  const labels = new Map(list.map((answer, label) => [answer, label]));
  const items: FileItem[] = [];
  const pace = new Pace();
  let withoutLabel = 0;
  for (const [i, file] of questions.entries()) {
    const read = await readVqa(file, { images, annotations: annotations[i]!, missing: 'keep' });
    const numbers = [...new Set(read.map(({ pictureId }) => pictureId!))].sort((a, b) => a - b);
    const leftOut = new Set(leaveOutLast > 0 ? numbers.slice(-leaveOutLast) : []);
    for (const { id, question, picture, pictureId, answers: given = [] } of read) {
      await pace.rest();
      if (leftOut.has(pictureId!)) continue;
      const targets = answerTargets(given, labels);
      if (targets.labels.length === 0) withoutLabel++;
      else items.push({ files: [picture], texts: [question], origin: `${file}: question ${id}`, answers: targets });
    }
  }
  check(
    items.length > 0,
    'MOME_INVALID_FILE',
    `${questions.join(', ')}: expected a question with one of ${list.length} answers, got none`,
  );
  return { ...datasetOfFiles(items, images), withoutLabel };
}

/** Statements of JSON lines such as `train.json`. @throws MomeError as `readNlvr2`, and for statements without a label; a picture that is not there is a damaged item */
export async function openNlvr2(files: readonly string[], images: string): Promise<Dataset> {
  const items: FileItem[] = [];
  for (const file of files) {
    for (const { id, statement, pictures, isTrue } of await readNlvr2(file, { images, missing: 'keep' })) {
      const origin = `${file}: ${id}`;
      check(isTrue !== undefined, 'MOME_INVALID_FILE', `${origin}: expected a label, got none`);
      items.push({ files: pictures, texts: [statement], origin, truth: isTrue });
    }
  }
  return datasetOfFiles(items, images, 2);
}
