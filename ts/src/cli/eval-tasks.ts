/** `mome eval vqa` and `mome eval nlvr2`. */
import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { replaceFile } from '../runtime/files.ts';
import { readNlvr2, readVqa } from '../train/data/vqa.ts';
import { type AnsweredQuestion, evaluateNlvr2, evaluateVqa, type JudgedStatement } from '../train/evaluate-tasks.ts';
import { interruption, type ModelFlags, withModel, withModelFlags } from './context.ts';
import { print, printJson } from './output.ts';
import { table } from './table.ts';
import { progressBar } from './terminal.ts';

interface VqaFlags extends ModelFlags {
  readonly questions: string;
  readonly images: string;
  readonly annotations?: string;
  readonly submission?: string;
  readonly queries?: string;
}

interface Nlvr2Flags extends ModelFlags {
  readonly data: string;
  readonly images: string;
  readonly queries?: string;
}

export function addEvalTasks(evaluate: Command): void {
  withModelFlags(
    evaluate
      .command('vqa')
      .description('answer questions about pictures; the official accuracy where people answered them too')
      .requiredOption('--questions <file>', 'JSON of VQA v2, such as v2_OpenEnded_mscoco_val2014_questions.json')
      .requiredOption('--images <folder>', 'pictures whose names end in the number of the picture')
      .option('--annotations <file>', "people's answers, such as v2_mscoco_val2014_annotations.json")
      .option('--submission <file>', 'write the answers as the evaluation server takes them')
      .option('--queries <file>', 'write how each question went, one JSON object a line'),
  ).action(vqa);
  withModelFlags(
    evaluate
      .command('nlvr2')
      .description('judge statements about two pictures')
      .requiredOption('--data <file>', 'JSON lines of NLVR2, such as dev.json')
      .requiredOption('--images <folder>', 'pictures such as dev-12-0-img0.png')
      .option('--queries <file>', 'write how each statement went, one JSON object a line'),
  ).action(nlvr2);
}

async function vqa(flags: VqaFlags): Promise<void> {
  const { images, annotations } = flags;
  const answered: AnsweredQuestion[] = [];
  const progress = progressBar('questions', flags.quiet);
  try {
    const questions = await readVqa(flags.questions, { images, ...(annotations !== undefined && { annotations }) });
    const report = await withModel(flags, (model) =>
      evaluateVqa({
        model,
        questions,
        signal: interruption(),
        onProgress: progress.update,
        onAnswer: (each) => void answered.push(each),
      }),
    );
    progress.stop();
    if (flags.submission !== undefined)
      await writeText(
        flags.submission,
        JSON.stringify(answered.map(({ id, answer }) => ({ question_id: id, answer }))),
      );
    if (flags.queries !== undefined) await writeLines(flags.queries, answered);
    if (flags.json) return printJson(report);
    const rows = [
      ['all', percent(report.accuracy)],
      ...Object.entries(report.accuracies).map(([type, accuracy]) => [type, percent(accuracy)]),
      ['soft score', percent(report.softScore)],
    ];
    const judged =
      report.judged === 0 ? 'no accuracy, because no answers of people were given' : table(['', 'accuracy'], rows);
    print(`questions: ${report.questions}\n${judged}`);
  } finally {
    progress.stop();
  }
}

async function nlvr2(flags: Nlvr2Flags): Promise<void> {
  const judged: JudgedStatement[] = [];
  const progress = progressBar('statements', flags.quiet);
  try {
    const statements = await readNlvr2(flags.data, { images: flags.images });
    const report = await withModel(flags, (model) =>
      evaluateNlvr2({
        model,
        statements,
        signal: interruption(),
        onProgress: progress.update,
        onJudgement: (each) => void judged.push(each),
      }),
    );
    progress.stop();
    if (flags.queries !== undefined) await writeLines(flags.queries, judged);
    if (flags.json) return printJson(report);
    const { accuracy, consistency } = report;
    print(
      `statements: ${report.statements}, accuracy: ${percent(accuracy)}, consistency: ${percent(consistency)} (sentences judged right beside all their pictures)`,
    );
  } finally {
    progress.stop();
  }
}

const percent = (share: number | null): string => (share === null ? 'not known' : `${(100 * share).toFixed(2)} %`);

const writeLines = (file: string, values: readonly object[]): Promise<void> =>
  writeText(file, values.map((value) => `${JSON.stringify(value)}\n`).join(''));

const writeText = (file: string, text: string): Promise<void> =>
  replaceFile(file, (temporary) => writeFile(temporary, text));
