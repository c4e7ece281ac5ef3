/** `mome embed`, `match`, `answer`, `reason` and `fill-mask`: one call of the model each. */
import type { Command } from 'commander';
import type { Embeddings, ImageInput, Vlmo } from '../inference/vlmo.ts';
import { check } from '../runtime/errors.ts';
import { printable } from '../runtime/printable.ts';
import { countNumber, interruption, type ModelFlags, withModel, withModelFlags } from './context.ts';
import { addEmbedJobOptions, type EmbedJobFlags, embedJob, isEmbedJob } from './embed-job.ts';
import { print, printJson } from './output.ts';
import { pictureArgument, pictureArguments, textArgument, textArguments } from './stdin.ts';
import { printTable } from './table.ts';
import { progressBar } from './terminal.ts';

export function addModelCommands(program: Command): void {
  withModelFlags(
    addEmbedJobOptions(
      program
        .command('embed')
        .description('embeddings of texts and pictures, one row each; with --input of whole collections, into files')
        .option('-t, --text <text...>', 'texts; - for the lines of standard input')
        .option('-i, --image <path...>', 'pictures; - for the bytes of one on standard input'),
    ),
  ).action(embed);
  withModelFlags(
    program
      .command('match')
      .description('how likely a picture and each text belong together')
      .argument('<image>', 'path, or - for standard input')
      .argument('<text...>', 'texts, or - for the lines of standard input'),
  ).action(match);
  withModelFlags(
    program
      .command('answer')
      .description('answers to a question about a picture')
      .argument('<image>', 'path, or - for standard input')
      .argument('<question>', 'text, or - for standard input')
      .option('-k <n>', 'answers', countNumber, 5),
  ).action(answer);
  withModelFlags(
    program
      .command('reason')
      .description('whether a statement about two pictures is true')
      .argument('<left>', 'path, or - for standard input')
      .argument('<right>', 'path, or - for standard input')
      .argument('<statement>', 'text, or - for standard input'),
  ).action(reason);
  withModelFlags(
    program
      .command('fill-mask')
      .description('word pieces for each [MASK] of a text')
      .argument('<text>', 'text, or - for standard input')
      .option('-i, --image <path>', 'picture to look at; - for its bytes on standard input')
      .option('-k <n>', 'candidates', countNumber, 5),
  ).action(fillMask);
}

/** Embeds with a progress bar. */
async function embedImages(
  model: Vlmo,
  images: readonly ImageInput[],
  signal: AbortSignal,
  quiet?: boolean,
): Promise<Embeddings> {
  const progress = progressBar('embedding', quiet);
  try {
    return await model.embedImages(images, { signal, onProgress: progress.update });
  } finally {
    progress.stop(); // its timer would keep the process alive
  }
}

async function embed(flags: EmbedJobFlags & { readonly text?: string[]; readonly image?: string[] }): Promise<void> {
  if (isEmbedJob(flags)) return embedJob(flags);
  const { image = [] } = flags;
  check(
    (flags.text?.length ?? 0) + image.length > 0,
    'MOME_INVALID_ARGUMENT',
    'embed: expected --text, --image or --input, got none of them',
  );
  const signal = interruption();
  const text = await textArguments(flags.text ?? []);
  const pictures = await pictureArguments(image);
  await withModel(flags, async (model) => {
    const texts = await model.embedTexts(text, { signal });
    const images = await embedImages(model, pictures, signal, flags.quiet);
    const rows = [
      ...text.map((input, i) => ({ input, row: i, of: texts })),
      ...image.map((input, i) => ({ input, row: i, of: images })),
    ].map(({ input, row, of }) => ({
      input,
      embedding: [...of.embeddings.subarray(row * of.width, (row + 1) * of.width)],
    }));
    if (flags.json) printJson({ width: texts.width, rows });
    else for (const { embedding } of rows) print(embedding.map((value) => value.toPrecision(7)).join('\t'));
  });
}

async function match(image: string, given: string[], flags: ModelFlags): Promise<void> {
  const picture = await pictureArgument(image);
  const texts = await textArguments(given);
  await withModel(flags, async (model) => {
    const scores = await model.match(
      texts.map((text) => ({ image: picture, text })),
      { signal: interruption() },
    );
    const rows = texts.map((text, i) => ({ text, probability: scores[i]! }));
    if (flags.json) printJson({ image, results: rows });
    else
      printTable(
        ['match', 'text'],
        rows.map(({ text, probability }) => [probability.toFixed(4), printable(text)]),
        { wrap: 'text' },
      );
  });
}

async function answer(image: string, given: string, flags: ModelFlags & { readonly k: number }): Promise<void> {
  const picture = await pictureArgument(image);
  const question = await textArgument(given);
  await withModel(flags, async (model) => {
    const answers = await model.answer(picture, question, { k: flags.k, signal: interruption() });
    if (flags.json) printJson({ image, question, answers });
    else
      printTable(
        ['score', 'answer'],
        answers.map((each) => [each.score.toFixed(4), printable(each.answer)]),
        { wrap: 'answer' },
      );
  });
}

async function reason(left: string, right: string, given: string, flags: ModelFlags): Promise<void> {
  const pictures = [await pictureArgument(left), await pictureArgument(right)] as const;
  const statement = await textArgument(given);
  await withModel(flags, async (model) => {
    const { probability } = await model.reason(pictures, statement, { signal: interruption() });
    if (flags.json) printJson({ images: [left, right], statement, probability });
    else print(`${probability >= 0.5 ? 'true' : 'false'} (probability ${probability.toFixed(4)})`);
  });
}

async function fillMask(
  given: string,
  flags: ModelFlags & { readonly image?: string; readonly k: number },
): Promise<void> {
  const text = await textArgument(given);
  const picture = flags.image === undefined ? null : await pictureArgument(flags.image);
  await withModel(flags, async (model) => {
    const masks = await model.fillMask(picture, text, { k: flags.k, signal: interruption() });
    if (flags.json) return printJson({ text, masks });
    if (masks.length === 0) print('no [MASK] in the text');
    for (const { position, candidates } of masks) {
      print(`token ${position}: ${candidates.map(({ token, score }) => `${token} ${score.toFixed(3)}`).join(', ')}`);
    }
  });
}
