/**
 * Questions about pictures in the JSON files of VQA v2, and statements about two pictures in the JSON lines of NLVR2.
 */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { pictureKind } from '../../image/formats.ts';
import { check, MomeError } from '../../runtime/errors.ts';
import { InputFile } from '../../runtime/input-file.ts';
import { type JsonLimits, parseJson } from '../../runtime/json.ts';
import { jsonItems } from '../../runtime/json-items.ts';
import { splitLines } from './lines.ts';

/** A question, and what people answered where that is known. */
export interface VqaQuestion {
  readonly id: number;
  readonly question: string;
  /** File of the picture. */
  readonly picture: string;
  /** Ten of them in VQA v2. */
  readonly answers?: readonly string[];
  /** Such as "yes/no", "number" or "other". */
  readonly answerType?: string;
  /** Number of the picture. */
  readonly pictureId?: number;
}

/** A statement about two pictures. */
export interface Nlvr2Statement {
  readonly id: string;
  readonly statement: string;
  readonly pictures: readonly [string, string];
  /** Undefined where the file does not say. */
  readonly isTrue?: boolean;
}

/** The answers to the training questions are the largest of these files, 390 MB. */
const fileOptions = { depth: 8, bytes: 2 ** 30 };
const maxQuestions = 10_000_000;
const shortText = z.string().max(2 ** 14);
const id = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const questionSchema = z.object({ image_id: id, question: shortText.min(1), question_id: id });
const annotationSchema = z.object({
  question_id: id,
  answer_type: z.string().max(64).optional(),
  answers: z
    .array(z.object({ answer: shortText }))
    .min(1)
    .max(100),
});
const statementSchema = z.object({
  identifier: z.string().min(1).max(256),
  sentence: shortText.min(1),
  label: z
    .string()
    .max(16)
    .transform((label) => label.toLowerCase())
    .pipe(z.enum(['true', 'false']))
    .optional(),
  directory: z.union([z.string().max(64), z.number()]).optional(),
});
/** Pictures that are not there: refused, or given a name that no file has, for readers that skip what is missing. */
type MissingPictures = 'refuse' | 'keep';

/** What a line of NLVR2 may hold; those of the set have some 500 bytes. */
const lineLimits: JsonLimits = { bytes: 2 ** 16, depth: 8, values: 2 ** 10 };

/**
 * Questions in the order of their file.
 *
 * @param questions such as `v2_OpenEnded_mscoco_val2014_questions.json`
 * @param options.images folder, read with its subfolders, of pictures whose names end in the number of the picture, as COCO's do
 * @param options.annotations such as `v2_mscoco_val2014_annotations.json`
 * @throws MomeError `MOME_NOT_FOUND` also for a picture that is not in the folder; `MOME_INVALID_FILE` with the number of the question, also
 *   for one without answers where `annotations` is given; `MOME_TOO_LARGE`
 */
export async function readVqa(
  questions: string,
  options: { readonly images: string; readonly annotations?: string; readonly missing?: MissingPictures },
): Promise<VqaQuestion[]> {
  const { images, annotations, missing = 'refuse' } = options;
  const answersOf = annotations === undefined ? undefined : await readAnnotations(annotations);
  const pictures = await picturesByNumber(images);
  const items: VqaQuestion[] = [];
  for await (const value of jsonItems(questions, 'a file of questions', { ...fileOptions, list: 'questions' })) {
    const origin = `${questions}: question ${items.length}`;
    check(items.length < maxQuestions, 'MOME_TOO_LARGE', `${origin}: expected at most ${maxQuestions} questions`);
    const { image_id, question, question_id } = parsed(questionSchema, value, origin);
    const picture = pictures.get(image_id) ?? (missing === 'keep' ? path.join(images, `${image_id}`) : undefined);
    check(
      picture !== undefined,
      'MOME_NOT_FOUND',
      `${origin}: expected a picture whose name ends in ${image_id} in ${images}, found none`,
    );
    const known = answersOf?.get(question_id);
    check(
      answersOf === undefined || known !== undefined,
      'MOME_INVALID_FILE',
      `${origin}: expected answers to question ${question_id} in ${annotations}, found none`,
    );
    items.push({ id: question_id, question, picture, pictureId: image_id, ...known });
  }
  check(items.length > 0, 'MOME_INVALID_FILE', `${questions}: expected at least one question, got none`);
  return items;
}

async function readAnnotations(file: string): Promise<Map<number, Pick<VqaQuestion, 'answers' | 'answerType'>>> {
  const byQuestion = new Map<number, Pick<VqaQuestion, 'answers' | 'answerType'>>();
  let index = 0;
  for await (const value of jsonItems(file, 'a file of answers', { ...fileOptions, list: 'annotations' })) {
    const origin = `${file}: annotation ${index++}`;
    check(index <= maxQuestions, 'MOME_TOO_LARGE', `${origin}: expected at most ${maxQuestions} annotations`);
    const { question_id, answers, answer_type } = parsed(annotationSchema, value, origin);
    byQuestion.set(question_id, {
      answers: answers.map(({ answer }) => answer),
      ...(answer_type !== undefined && { answerType: answer_type }),
    });
  }
  return byQuestion;
}

/** Pictures by the number at the end of their names; of several the first in the order of paths. */
async function picturesByNumber(folder: string): Promise<Map<number, string>> {
  const byNumber = new Map<number, string>();
  for (const file of await picturesIn(folder)) {
    const digits = /(\d+)\.[^.]*$/.exec(path.basename(file));
    if (digits && !byNumber.has(Number(digits[1]))) byNumber.set(Number(digits[1]), file);
  }
  return byNumber;
}

async function picturesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
    throw new MomeError('MOME_NOT_FOUND', `${folder}: expected a folder of pictures`, { cause: error });
  });
  return entries
    .filter((entry) => !entry.isDirectory() && pictureKind(entry.name) === 'readable')
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

/**
 * Statements in the order of their file, JSON lines such as `dev.json`. The pictures of `dev-12-0-3` are `dev-12-0-img0.png` and
 * `dev-12-0-img1.png`, in the folder or, for training, in its subfolder that the line names.
 *
 * @throws MomeError `MOME_NOT_FOUND`, also for a picture; `MOME_INVALID_FILE` with the line, `MOME_TOO_LARGE`
 */
export async function readNlvr2(
  source: string,
  options: { readonly images: string; readonly missing?: MissingPictures },
): Promise<Nlvr2Statement[]> {
  const file = await InputFile.open(source, 'a file of statements');
  const items: Nlvr2Statement[] = [];
  try {
    for await (const { text, line } of splitLines(file.pieces(), source)) {
      const content = line === 1 ? text.replace(/^\uFEFF/, '') : text;
      if (content.trim() === '') continue;
      const origin = `${source}:${line}`;
      const value = await parseJson(content, origin, lineLimits);
      const { identifier, sentence, label, directory } = parsed(statementSchema, value, origin);
      const stem = path.basename(identifier).replace(/-[^-]*$/, '');
      const pictureOf = async (side: 0 | 1): Promise<string> => {
        const name = `${stem}-img${side}.png`;
        const places = [...(directory === undefined ? [] : [path.join(path.basename(String(directory)), name)]), name];
        for (const place of places) {
          const found = await stat(path.join(options.images, place)).catch(() => undefined);
          if (found?.isFile()) return path.join(options.images, place);
        }
        if (options.missing === 'keep') return path.join(options.images, places[0]!);
        throw new MomeError('MOME_NOT_FOUND', `${origin}: expected a picture ${name} in ${options.images}, found none`);
      };
      items.push({
        id: identifier,
        statement: sentence,
        pictures: [await pictureOf(0), await pictureOf(1)],
        ...(label !== undefined && { isTrue: label === 'true' }),
      });
    }
  } finally {
    file.close();
  }
  check(items.length > 0, 'MOME_INVALID_FILE', `${source}: expected at least one statement, got none`);
  return items;
}

/** @throws MomeError `MOME_INVALID_FILE` naming the field that is wrong */
export function parsed<T>(schema: z.ZodType<T>, value: unknown, origin: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field = issue?.path.join('.') || 'an object';
  throw new MomeError('MOME_INVALID_FILE', `${origin}: expected other values, got ${field}: ${issue?.message}`, {
    cause: result.error,
  });
}
