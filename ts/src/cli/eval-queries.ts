/** `mome eval queries`. */
import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { check } from '../runtime/errors.ts';
import { replaceFile } from '../runtime/files.ts';
import { emojiStyles } from '../train/data/emoji.ts';
import {
  evaluateQueries,
  picturesOfFolder,
  picturesOfStyle,
  type QueriesReport,
  type QueryScores,
  readQueries,
  type SearchedQuery,
} from '../train/evaluate-queries.ts';
import { interruption, type ModelFlags, wholeNumber, withModel, withModelFlags } from './context.ts';
import { print, printJson } from './output.ts';
import { table } from './table.ts';
import { progressBar } from './terminal.ts';

interface QueriesFlags extends ModelFlags {
  readonly data: string;
  readonly images?: string;
  readonly style: string;
  readonly split?: string;
  readonly k: number;
  readonly queries?: string;
}

export function addEvalQueries(evaluate: Command): void {
  withModelFlags(
    evaluate
      .command('queries')
      .description('search pictures for queries that may have several right results, such as sentences as people ask')
      .requiredOption('--data <file>', 'JSON with a list "queries" of { "query", "right": [pictures], "split" }')
      .option('--images <folder>', 'pictures that are searched; queries name them by their paths in it')
      .option('--style <name>', `without --images, emoji drawings by their names: ${emojiStyles.join(', ')}`, 'noto')
      .option('--split <name>', 'only the queries of this part')
      .option('--queries <file>', 'write how each query went, one JSON object a line')
      .option('-k <n>', 'candidates that the fusion encoder re-ranks; 0 leaves it out', wholeNumber, 0),
  ).action(queries);
}

async function queries(flags: QueriesFlags): Promise<void> {
  const { data, images, split, k } = flags;
  const style = emojiStyles.find((each) => each === flags.style);
  check(
    style !== undefined,
    'MOME_INVALID_ARGUMENT',
    `eval queries: expected a style of ${emojiStyles.join(', ')}, got ${flags.style}`,
  );
  const asked = await readQueries(data, split);
  const results: SearchedQuery[] = [];
  const progress = progressBar('queries', flags.quiet);
  try {
    const report = await withModel(flags, async (model) =>
      evaluateQueries({
        model,
        pictures:
          images === undefined
            ? await picturesOfStyle(style, model.config.imageSize, interruption())
            : await picturesOfFolder(images),
        queries: asked,
        k,
        signal: interruption(),
        onProgress: progress.update,
        onQuery: (each) => void results.push(each),
      }),
    );
    progress.stop();
    if (flags.queries !== undefined) {
      const lines = results.map((each) => `${JSON.stringify(each)}\n`).join('');
      await replaceFile(flags.queries, (temporary) => writeFile(temporary, lines));
    }
    if (flags.json) printJson(report);
    else print(describe(report));
  } finally {
    progress.stop();
  }
}

function describe({ pictures, queries, pairs, dual, reranked, chance, best }: QueriesReport): string {
  const numbers = ({ success, recall }: QueryScores) =>
    [success.at1, success.at5, success.at10, recall.at10].map((value) => value.toFixed(3));
  const rows = [
    ['dual', ...numbers(dual)],
    ...(reranked ? [['re-ranked', ...numbers(reranked)]] : []),
    ['chance', ...numbers(chance)],
    ['best possible', ...numbers(best)],
  ];
  return `pictures: ${pictures}, queries: ${queries}, pairs of a query and a right picture: ${pairs}\n${table(
    ['', 'success at 1', 'at 5', 'at 10', 'recall of pairs at 10'],
    rows,
  )}`;
}
