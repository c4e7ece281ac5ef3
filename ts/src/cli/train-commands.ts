/** `mome train` and `mome eval`. */
import type { Command } from 'commander';
import { writeCalibration } from '../checkpoint/index.ts';
import { Vlmo } from '../inference/vlmo.ts';
import { check } from '../runtime/errors.ts';
import { emojiStyles } from '../train/data/emoji.ts';
import {
  type EvaluateOptions,
  evaluateRetrieval,
  fitMatchCalibration,
  type RetrievalReport,
} from '../train/evaluate.ts';
import { readRecipe } from '../train/recipe.ts';
import type { Recall, RetrievalScores } from '../train/retrieval.ts';
import { runTraining } from '../train/run.ts';
import { interruption, type ModelFlags, progressBar, wholeNumber, withModel, withModelFlags } from './context.ts';
import { print, printJson } from './output.ts';
import { table } from './table.ts';

export function addTrainCommands(program: Command): void {
  program
    .command('train')
    .description('train a model from a recipe; writes metrics, checkpoints and the model folder')
    .argument('<recipe>', 'JSON file')
    .requiredOption('-o, --output <folder>', 'where everything is written')
    .option('--checkpoint-activations', 'compute activations again in the backward pass: less memory, the same numbers')
    .option('--resume', 'go on from the last checkpoint in the output folder')
    .option('--overwrite', "begin anew where an older run's checkpoints lie, which are removed")
    .option('--json', 'print JSON')
    .option('--quiet', 'no progress on standard error')
    .action(train);
  const evaluate = program.command('eval').description('measure a model');
  withModelFlags(
    evaluate
      .command('retrieval')
      .description('recall on held-out emoji drawings, one caption each, by the dual encoder and after re-ranking')
      .option('--style <name>', `drawing style: ${emojiStyles.join(', ')}`, 'noto')
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
}

async function train(
  recipe: string,
  flags: {
    readonly output: string;
    readonly checkpointActivations?: boolean;
    readonly resume?: boolean;
    readonly overwrite?: boolean;
    readonly json?: boolean;
    readonly quiet?: boolean;
  },
): Promise<void> {
  const { data } = await readRecipe(recipe);
  const result = await runTraining(recipe, {
    output: flags.output,
    resume: flags.resume ?? false,
    overwrite: flags.overwrite ?? false,
    quiet: flags.quiet ?? false,
    ...(flags.checkpointActivations && { checkpointActivations: true }),
    signal: interruption(),
    // The drawings held out say nothing about a model of other pictures, and need not be installed.
    ...('emoji' in data && { onEvaluate: evaluateFolder }),
  });
  if (flags.json) printJson(result);
  else
    print(
      `trained ${result.steps} steps at ${result.samplesPerSecond.toFixed(0)} samples/s; the model is in ${result.output}`,
    );
}

/** Dual-encoder recall of a model folder, as numbers for the metrics. */
async function evaluateFolder(folder: string): Promise<Readonly<Record<string, number>>> {
  const model = await Vlmo.load(folder);
  try {
    const { dual } = await evaluateRetrieval({ model, k: 0 });
    return { ...named('textToImage', dual.textToImage), ...named('imageToText', dual.imageToText) };
  } finally {
    await model.dispose();
  }
}

const named = (direction: string, { r1, r5, r10 }: Recall) => ({
  [`${direction}.r1`]: r1,
  [`${direction}.r5`]: r5,
  [`${direction}.r10`]: r10,
});

async function retrieval(flags: ModelFlags & { readonly style: string; readonly k: number }): Promise<void> {
  const report = await onDrawings(flags, 're-ranking', evaluateRetrieval);
  if (flags.json) printJson(report);
  else print(describe(report));
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
  const rows = (name: string, scores: RetrievalScores) =>
    (['textToImage', 'imageToText'] as const).map((direction) => {
      const { r1, r5, r10 } = scores[direction];
      return [
        name,
        direction === 'textToImage' ? 'text to image' : 'image to text',
        r1.toFixed(3),
        r5.toFixed(3),
        r10.toFixed(3),
      ];
    });
  return `${n} pictures\n${table(['', '', 'R@1', 'R@5', 'R@10'], [...rows('dual', dual), ...(reranked ? rows('re-ranked', reranked) : [])])}`;
}
