/** `mome train`. */
import type { Command } from 'commander';
import { Vlmo } from '../inference/vlmo.ts';
import { evaluateRetrieval } from '../train/evaluate.ts';
import { readRecipe } from '../train/recipe.ts';
import type { Recall } from '../train/retrieval.ts';
import { runTraining } from '../train/run.ts';
import { interruption } from './context.ts';
import { print, printJson } from './output.ts';

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
