/** `mome train`. */
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { presets } from '../architecture/config.ts';
import { check } from '../runtime/errors.ts';
import { makeFolder } from '../runtime/files.ts';
import { recipeNames } from '../train/named-recipes.ts';
import { openProcessGroup } from '../train/process-group-mpi.ts';
import { isChain, parseChain, parseRecipe, readRecipeJson, recipeConfig, type Stage } from '../train/recipe.ts';
import { runTraining } from '../train/run.ts';
import { openRunData } from '../train/run-data.ts';
import { makePatchTokenizer, patchTokenizerName } from '../train/run-patch-tokenizer.ts';
import type { StartPlan } from '../train/start-plan.ts';
import { countNumber, interruption } from './context.ts';
import { print, printJson } from './output.ts';
import { table } from './table.ts';
import { progressBar } from './terminal.ts';

/** What the data of each recipe are called in its JSON. */
const dataFields = {
  image: 'pictures',
  text: 'texts',
  pairs: 'pairs',
  retrieval: 'pairs',
  vqa: 'questions',
  nlvr2: 'statements',
} as const satisfies Record<(typeof recipeNames)[number], string>;

/** Flags that become fields of a recipe: they go with --recipe. */
const recipeFlags = [
  'preset',
  'data',
  'images',
  'annotations',
  'init',
  'vocabulary',
  'patchTokenizer',
  'tokens',
] as const satisfies (keyof TrainFlags)[];

/** Milliseconds that an interrupted process leaves the first one for its checkpoint, before the launcher ends it. */
const launcherPatience = 60_000;

export function addTrainCommands(program: Command): void {
  program
    .command('train')
    .description('train a model from a recipe; writes metrics, a report, checkpoints and the model folder')
    .argument('[recipe]', 'JSON file: a recipe, or a chain of them')
    .option('-o, --output <folder>', 'where everything is written')
    .addOption(
      new Option('--recipe <name>', "one of the library's recipes, with the original's settings").choices([
        ...recipeNames,
        'tokenizer',
      ]),
    )
    .addOption(
      new Option('--preset <size>', 'size of the model, where it starts from nothing').choices(Object.keys(presets)),
    )
    .option('--data <path...>', 'files or folders to learn from, with --recipe')
    .option('--images <folder>', 'pictures that the data name')
    .option('--annotations <path...>', 'answers to the questions of --data')
    .option('--init <model>', 'checkpoint, model folder or name of a model to start from, with --recipe')
    .option('--vocabulary <file>', 'vocab.txt or tokenizer.json, with --recipe')
    .option('--patch-tokenizer <file>', 'gives the visual tokens of pictures, with --recipe image')
    .option('--tokens <n>', 'how many visual tokens there are, with --recipe image or tokenizer', countNumber)
    .option('--print', 'print the recipe as JSON and stop')
    .option('--checkpoint-activations', 'compute activations again in the backward pass: less memory, the same numbers')
    .option('--resume', 'go on from the last checkpoint in the output folder')
    .option('--overwrite', "begin anew where an older run's checkpoints lie, which are removed")
    .option('--json', 'print JSON')
    .option('--quiet', 'no table and no progress on standard error')
    .action(train);
}

interface TrainFlags {
  readonly output?: string;
  readonly recipe?: (typeof recipeNames)[number] | 'tokenizer';
  readonly preset?: keyof typeof presets;
  readonly data?: readonly string[];
  readonly images?: string;
  readonly annotations?: readonly string[];
  readonly init?: string;
  readonly vocabulary?: string;
  readonly patchTokenizer?: string;
  readonly tokens?: number;
  readonly print?: boolean;
  readonly checkpointActivations?: boolean;
  readonly resume?: boolean;
  readonly overwrite?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

async function train(file: string | undefined, flags: TrainFlags): Promise<void> {
  check(
    (file === undefined) !== (flags.recipe === undefined),
    'MOME_INVALID_ARGUMENT',
    `train: expected the file of a recipe or --recipe, got ${file === undefined ? 'neither' : 'both'}`,
  );
  const unused = file === undefined ? undefined : recipeFlags.find((flag) => flags[flag] !== undefined);
  check(
    unused === undefined,
    'MOME_INVALID_ARGUMENT',
    `train: expected no ${flagOf(unused)} beside ${file}, whose fields say it`,
  );
  if (flags.print && flags.recipe !== 'tokenizer') return printRecipe(file, flags);
  check(
    file !== undefined || flags.data !== undefined,
    'MOME_INVALID_ARGUMENT',
    'train: expected --data, what the recipe learns from',
  );
  check(flags.output !== undefined, 'MOME_INVALID_ARGUMENT', 'train: expected --output, the folder to write to');
  const { output } = flags;
  if (flags.recipe === 'tokenizer') return trainTokenizer(output, flags);
  const processGroup = await openProcessGroup();
  const result = await runTraining(file ?? recipeOf(flags), {
    output,
    processGroup,
    resume: flags.resume ?? false,
    overwrite: flags.overwrite ?? false,
    quiet: flags.quiet ?? false,
    ...(flags.checkpointActivations && { checkpointActivations: true }),
    signal: interruption(),
    ...(!flags.quiet && { onStart: showPlan }),
  }).catch(async (error: unknown) => {
    // A process that ends takes the others with it, and the first one may be writing a checkpoint.
    if (processGroup.rank > 0 && interruption().aborted) await setTimeout(launcherPatience);
    throw error;
  });
  await processGroup.dispose();
  if (processGroup.rank > 0) return;
  if (flags.json) return printJson(result);
  const waited = `${(100 * result.waitedShare).toFixed(1)} % of the time waiting for data`;
  print(
    `trained ${result.steps} steps at ${result.samplesPerSecond.toPrecision(3)} samples/s, ${waited}; the model is in ${result.output}`,
  );
  if (result.skipped > 0) print(`${result.skipped} damaged items were left out; metrics.jsonl names them`);
}

/** A flag as it is written. */
const flagOf = (name: keyof TrainFlags | undefined) => (name === 'patchTokenizer' ? '--patch-tokenizer' : `--${name}`);

/** Makes a patch tokenizer of pictures. */
async function trainTokenizer(output: string, flags: TrainFlags): Promise<void> {
  const unused = (['init', 'vocabulary', 'patchTokenizer', 'annotations', 'resume'] as const).find(
    (flag) => flags[flag],
  );
  check(unused === undefined, 'MOME_INVALID_ARGUMENT', `train: expected no ${flagOf(unused)} for a patch tokenizer`);
  const recipe = parseRecipe(recipeOf({ ...flags, recipe: 'image' }));
  const { imageSize, patchSize, visualTokens } = recipeConfig(recipe, undefined);
  const file = join(output, patchTokenizerName);
  const { dataset } = await openRunData(recipe, '.', imageSize);
  const bar = progressBar('k-means', flags.quiet);
  try {
    await makeFolder(output);
    await makePatchTokenizer(
      file,
      dataset,
      { imageSize, patchSize, ...(visualTokens !== undefined && { visualTokens }) },
      {
        ...recipe,
        signal: interruption(),
        onProgress: ({ iteration, iterations }) => bar.update(iteration, iterations),
      },
    );
  } finally {
    bar.stop();
    dataset.close();
  }
  if (flags.json) printJson({ output: file, tokens: visualTokens });
  else print(`${visualTokens} visual tokens; the patch tokenizer is ${file}`);
}

/** The recipe that flags name. */
function recipeOf(flags: TrainFlags): Readonly<Record<string, unknown>> {
  const { recipe, preset, data, images, annotations, init, vocabulary, patchTokenizer, tokens } = flags;
  const single = (paths: readonly string[]) => (paths.length === 1 ? paths[0] : paths);
  const source = data && {
    [dataFields[recipe as keyof typeof dataFields]]: single(data),
    ...(images !== undefined && { images }),
    ...(annotations && { annotations: single(annotations) }),
  };
  return {
    recipe,
    ...((preset !== undefined || init === undefined) && { model: preset ?? 'base' }),
    ...(init !== undefined && { init }),
    ...(vocabulary !== undefined && { vocabulary }),
    ...(patchTokenizer !== undefined && { patchTokenizer }),
    ...(tokens !== undefined && { visualTokens: tokens }),
    ...(source && { data: source }),
  };
}

/** Prints a recipe with all its settings: what a user may edit and give back. */
async function printRecipe(file: string | undefined, flags: TrainFlags): Promise<void> {
  if (file !== undefined) {
    const json = await readRecipeJson(file);
    return printJson(isChain(json) ? chainJson(parseChain(json, file)) : parseRecipe(json, file));
  }
  const own = recipeOf(flags);
  if ('data' in own) return printJson(parseRecipe(own));
  const { data: _, ...rest } = parseRecipe({ ...own, data: { texts: 'data' } });
  printJson(rest);
}

/** A chain as its file has it: a stage is named without its number. */
function chainJson(stages: readonly Stage[]): object {
  return { stages: stages.map(({ name, recipe }) => ({ name: name.replace(/^\d+-/, ''), ...recipe })) };
}

/** What a run does with each part of the model, on standard error. */
function showPlan(plan: StartPlan, stage: string | undefined): void {
  const rows = plan.rows.map(({ part, learning, from, tensors, values }) => [part, learning, from, tensors, values]);
  const lines = [
    ...(stage === undefined ? [] : [`stage ${stage}`]),
    table(['part', 'learning', 'from', 'tensors', 'values'], rows),
    ...plan.notes,
    ...(plan.dropped.length > 0 ? [`dropped from the checkpoint: ${listed(plan.dropped)}`] : []),
  ];
  process.stderr.write(`${lines.join('\n')}\n`);
}

const listed = (names: readonly string[]) =>
  names.length > 8 ? `${names.slice(0, 8).join(', ')} and ${names.length - 8} more` : names.join(', ');
