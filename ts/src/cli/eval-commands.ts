/** `mome eval`. */
import { writeFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { writeCalibration } from '../checkpoint/index.ts';
import { check } from '../runtime/errors.ts';
import { replaceFile } from '../runtime/files.ts';
import { emojiStyles } from '../train/data/emoji.ts';
import { openPairs } from '../train/data/open-pairs.ts';
import {
  type EvaluateOptions,
  evaluateRetrieval,
  fitMatchCalibration,
  type RetrievalReport,
} from '../train/evaluate.ts';
import { evaluatePairs, type PairsReport, type QueryResult } from '../train/evaluate-pairs.ts';
import type { RetrievalScores } from '../train/retrieval.ts';
import { countNumber, interruption, type ModelFlags, wholeNumber, withModel, withModelFlags } from './context.ts';
import { addEvalQueries } from './eval-queries.ts';
import { addEvalTasks } from './eval-tasks.ts';
import { addEvalZeroShot } from './eval-zero-shot.ts';
import { print, printJson } from './output.ts';
import { table } from './table.ts';
import { progressBar } from './terminal.ts';

export function addEvalCommands(program: Command): void {
  const evaluate = program.command('eval').description('measure a model');
  withModelFlags(
    evaluate
      .command('retrieval')
      .description(
        'recall by the dual encoder and after re-ranking: on pictures with captions, or on held-out emoji drawings',
      )
      .option(
        '--data <path>',
        'pictures with captions: .jsonl, .csv, .arrow, .parquet, .tar, folder, or .json of Karpathy splits',
      )
      .option('--images <folder>', 'where the pictures of a .json file lie; its own folder unless named')
      .option('--split <names>', 'parts of a .json file, separated by commas', 'test')
      .option('--captions <n>', 'captions of each picture that count, the first ones; all unless named', countNumber)
      .option('--fold <n>', 'the mean of folds of so many pictures', countNumber)
      .addOption(
        new Option('--rule <name>', 'what re-ranking orders by').choices(['fused', 'original']).default('fused'),
      )
      .option('--queries <file>', 'write how each query went, one JSON object a line')
      .option('--style <name>', `without --data, the drawing style: ${emojiStyles.join(', ')}`, 'noto')
      .option('-k <n>', 'candidates that the fusion encoder re-ranks; 0 leaves it out', wholeNumber, 32),
  ).action(retrieval);
  withModelFlags(
    evaluate
      .command('calibration')
      .description(
        'fit what makes probabilities of the matching head on held-out emoji drawings, and write it into the config.json of --model',
      )
      .option('--style <name>', `drawing style: ${emojiStyles.join(', ')}`, 'noto')
      .option('-k <n>', 'first candidates of each query that are judged', wholeNumber, 10)
      .option('--no-write', 'only print it'),
  ).action(calibration);
  addEvalQueries(evaluate);
  addEvalTasks(evaluate);
  addEvalZeroShot(evaluate);
}

interface RetrievalFlags extends ModelFlags {
  readonly style: string;
  readonly k: number;
  readonly data?: string;
  readonly images?: string;
  readonly split: string;
  readonly captions?: number;
  readonly fold?: number;
  readonly rule: 'fused' | 'original';
  readonly queries?: string;
}

async function retrieval(flags: RetrievalFlags): Promise<void> {
  if (flags.data !== undefined) return onPairs(flags, flags.data);
  for (const name of ['images', 'captions', 'fold', 'queries'] as const)
    check(
      flags[name] === undefined,
      'MOME_INVALID_ARGUMENT',
      `eval retrieval: expected --data beside --${name}, got --${name} alone`,
    );
  const report = await onDrawings(flags, 're-ranking', evaluateRetrieval);
  if (flags.json) printJson(report);
  else print(describe(report));
}

/** Recall on the caller's pictures. */
async function onPairs(flags: RetrievalFlags, data: string): Promise<void> {
  const { images, captions, fold, k, rule } = flags;
  const splits = flags.split.split(',').map((split) => split.trim());
  const progress = progressBar('retrieval', flags.quiet);
  const queries: QueryResult[] = [];
  try {
    const report = await withModel(flags, async (model) => {
      const options = { size: model.config.imageSize, splits, ...(images !== undefined && { images }) };
      const dataset = await openPairs(data, options);
      try {
        return await evaluatePairs({
          model,
          dataset,
          k,
          rule,
          ...(captions !== undefined && { captions }),
          ...(fold !== undefined && { fold }),
          signal: interruption(),
          onProgress: progress.update,
          ...(flags.queries !== undefined && { onQuery: (query: QueryResult) => void queries.push(query) }),
        });
      } finally {
        dataset.close?.();
      }
    });
    progress.stop();
    if (flags.json) printJson(report);
    else print(describePairs(report));
    if (flags.queries !== undefined) {
      const lines = queries.map((query) => `${JSON.stringify(query)}\n`).join('');
      await replaceFile(flags.queries, (temporary) => writeFile(temporary, lines));
    }
  } finally {
    progress.stop();
  }
}

/** Does something with a model and held-out drawings, with a progress bar. */
async function onDrawings<T>(
  flags: ModelFlags & { readonly style: string; readonly k: number },
  label: string,
  work: (options: EvaluateOptions) => Promise<T>,
): Promise<T> {
  const style = emojiStyles.find((each) => each === flags.style);
  check(
    style !== undefined,
    'MOME_INVALID_ARGUMENT',
    `eval: expected a style of ${emojiStyles.join(', ')}, got ${flags.style}`,
  );
  const progress = progressBar(label, flags.quiet);
  try {
    return await withModel(flags, (model) =>
      work({ model, style, k: flags.k, signal: interruption(), onProgress: progress.update }),
    );
  } finally {
    progress.stop();
  }
}

async function calibration(
  flags: ModelFlags & { readonly style: string; readonly k: number; readonly write: boolean },
): Promise<void> {
  const { model, write } = flags;
  check(
    model !== undefined || !write,
    'MOME_INVALID_ARGUMENT',
    'eval calibration: expected --model, whose config.json is written, or --no-write',
  );
  const fit = await onDrawings(flags, 'judging', fitMatchCalibration);
  if (model !== undefined && write) await writeCalibration(model, { slope: fit.slope, offset: fit.offset });
  if (flags.json) return printJson(fit);
  const { slope, offset, candidates, share, others } = fit;
  print(
    `slope ${slope.toFixed(4)}, offset ${offset.toFixed(4)}, for the first ${candidates} candidates of a query, of which ${(100 * share).toFixed(1)} % are right\n` +
      `expected calibration error ${others.errorBefore.toFixed(4)} before and ${others.errorAfter.toFixed(4)} after, on queries it was not fitted on`,
  );
}

function describe({ n, dual, reranked }: RetrievalReport): string {
  return `${n} pictures\n${recallTable(dual, reranked)}`;
}

function describePairs({ pictures, captions, folds, leftOut, dual, reranked }: PairsReport): string {
  const cut = folds > 1 ? `, mean of ${folds} folds` : '';
  const rest = leftOut > 0 ? `, left out because they fill no fold: ${leftOut}` : '';
  const mean = reranked ? `${share(dual.mean)}, re-ranked ${share(reranked.mean)}` : share(dual.mean);
  const heading = `pictures: ${pictures}, captions: ${captions}${cut}${rest}`;
  return `${heading}\n${recallTable(dual, reranked)}\nmean of the six: ${mean}`;
}

const share = (value: number): string => value.toFixed(3);

/** Recall of both directions, before and after re-ranking. */
function recallTable(dual: RetrievalScores, reranked: RetrievalScores | null): string {
  const rows = (name: string, scores: RetrievalScores) =>
    (['textToImage', 'imageToText'] as const).map((direction) => {
      const { r1, r5, r10 } = scores[direction];
      return [name, direction === 'textToImage' ? 'text to image' : 'image to text', share(r1), share(r5), share(r10)];
    });
  return table(
    ['', '', 'R@1', 'R@5', 'R@10'],
    [...rows('dual', dual), ...(reranked ? rows('re-ranked', reranked) : [])],
  );
}
