/** `mome eval zero-shot`. */
import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { replaceFile } from '../runtime/files.ts';
import { readText } from '../runtime/input-file.ts';
import {
  type ClassifiedPicture,
  evaluateZeroShot,
  readClassFolders,
  zeroShotTemplates,
} from '../train/evaluate-zero-shot.ts';
import { interruption, type ModelFlags, withModel, withModelFlags } from './context.ts';
import { print, printJson } from './output.ts';
import { progressBar } from './terminal.ts';

interface ZeroShotFlags extends ModelFlags {
  readonly data: string;
  readonly templates?: string;
  readonly queries?: string;
}

export function addEvalZeroShot(evaluate: Command): void {
  withModelFlags(
    evaluate
      .command('zero-shot')
      .description('name the class of pictures by the nearest text')
      .requiredOption('--data <folder>', 'a subfolder for each class, named as the class')
      .option(
        '--templates <file>',
        `texts with {} for the name of a class, one a line; default: ${zeroShotTemplates.join(' ')}`,
      )
      .option('--queries <file>', 'write how each picture went, one JSON object a line'),
  ).action(zeroShot);
}

async function zeroShot(flags: ZeroShotFlags): Promise<void> {
  const pictures = await readClassFolders(flags.data);
  const templates = flags.templates === undefined ? undefined : await readTemplates(flags.templates);
  const results: ClassifiedPicture[] = [];
  const progress = progressBar('pictures', flags.quiet);
  try {
    const report = await withModel(flags, (model) =>
      evaluateZeroShot({
        model,
        pictures,
        ...(templates && { templates }),
        signal: interruption(),
        onProgress: progress.update,
        onPicture: (each) => void results.push(each),
      }),
    );
    progress.stop();
    const { queries } = flags;
    if (queries !== undefined) {
      const lines = results.map((each) => `${JSON.stringify(each)}\n`).join('');
      await replaceFile(queries, (temporary) => writeFile(temporary, lines));
    }
    if (flags.json) return printJson(report);
    const share = (value: number) => `${(100 * value).toFixed(1)} %`;
    print(
      `${report.pictures} pictures of ${report.classes} classes: top 1 ${share(report.top1)}, top 5 ${share(report.top5)}, mean over classes ${share(report.meanPerClass)}`,
    );
  } finally {
    progress.stop();
  }
}

async function readTemplates(file: string): Promise<string[]> {
  const { text } = await readText(file, { what: 'a list of templates', maxBytes: 2 ** 20 });
  return text.split(/\r?\n/).filter((line) => line.trim() !== '');
}
