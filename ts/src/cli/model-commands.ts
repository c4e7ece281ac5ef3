/** `mome embed`, `match`, `answer`, `reason` and `fill-mask`: one call of the model each. */
import type { Command } from 'commander';
import type { Embeddings, Vlmo } from '../inference/vlmo.ts';
import { check } from '../runtime/errors.ts';
import {
  interruption,
  type ModelFlags,
  print,
  printJson,
  progressBar,
  wholeNumber,
  withModel,
  withModelFlags,
} from './context.ts';
import { table } from './table.ts';

export function addModelCommands(program: Command): void {
  withModelFlags(
    program
      .command('embed')
      .description('embeddings of texts and pictures, one row each')
      .option('-t, --text <text...>', 'texts')
      .option('-i, --image <path...>', 'pictures'),
  ).action(embed);
  withModelFlags(
    program
      .command('match')
      .description('how likely a picture and each text belong together')
      .argument('<image>')
      .argument('<text...>'),
  ).action(match);
  withModelFlags(
    program
      .command('answer')
      .description('answers to a question about a picture')
      .argument('<image>')
      .argument('<question>')
      .option('-k <n>', 'answers', wholeNumber, 5),
  ).action(answer);
  withModelFlags(
    program
      .command('reason')
      .description('whether a statement about two pictures is true')
      .argument('<left>')
      .argument('<right>')
      .argument('<statement>'),
  ).action(reason);
  withModelFlags(
    program
      .command('fill-mask')
      .description('word pieces for each [MASK] of a text')
      .argument('<text>')
      .option('-i, --image <path>', 'picture to look at')
      .option('-k <n>', 'candidates', wholeNumber, 5),
  ).action(fillMask);
}

/** Embeds with a progress bar. */
async function embedImages(
  model: Vlmo,
  paths: readonly string[],
  signal: AbortSignal,
  quiet?: boolean,
): Promise<Embeddings> {
  const progress = progressBar('embedding', quiet);
  try {
    return await model.embedImages(paths, { signal, onProgress: progress.update });
  } finally {
    progress.stop(); // its timer would keep the process alive
  }
}

async function embed(flags: ModelFlags & { readonly text?: string[]; readonly image?: string[] }): Promise<void> {
  const { text = [], image = [] } = flags;
  check(text.length + image.length > 0, 'MOME_INVALID_ARGUMENT', 'embed: expected --text or --image, got neither');
  const signal = interruption();
  await withModel(flags, async (model) => {
    const texts = await model.embedTexts(text, { signal });
    const images = await embedImages(model, image, signal, flags.quiet);
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

async function match(image: string, texts: string[], flags: ModelFlags): Promise<void> {
  await withModel(flags, async (model) => {
    const scores = await model.match(
      texts.map((text) => ({ image, text })),
      { signal: interruption() },
    );
    const rows = texts.map((text, i) => ({ text, probability: scores[i]! }));
    if (flags.json) printJson({ image, results: rows });
    else
      print(
        table(
          ['match', 'text'],
          rows.map(({ text, probability }) => [probability.toFixed(4), text]),
        ),
      );
  });
}

async function answer(image: string, question: string, flags: ModelFlags & { readonly k: number }): Promise<void> {
  await withModel(flags, async (model) => {
    const answers = await model.answer(image, question, { k: flags.k, signal: interruption() });
    if (flags.json) printJson({ image, question, answers });
    else
      print(
        table(
          ['score', 'answer'],
          answers.map((each) => [each.score.toFixed(4), each.answer]),
        ),
      );
  });
}

async function reason(left: string, right: string, statement: string, flags: ModelFlags): Promise<void> {
  await withModel(flags, async (model) => {
    const { probability } = await model.reason([left, right], statement, { signal: interruption() });
    if (flags.json) printJson({ images: [left, right], statement, probability });
    else print(`${probability >= 0.5 ? 'true' : 'false'} (probability ${probability.toFixed(4)})`);
  });
}

async function fillMask(
  text: string,
  flags: ModelFlags & { readonly image?: string; readonly k: number },
): Promise<void> {
  await withModel(flags, async (model) => {
    const masks = await model.fillMask(flags.image ?? null, text, { k: flags.k, signal: interruption() });
    if (flags.json) return printJson({ text, masks });
    for (const { position, candidates } of masks) {
      print(`token ${position}: ${candidates.map(({ token, score }) => `${token} ${score.toFixed(3)}`).join(', ')}`);
    }
  });
}
