/** `mome match`, `answer`, `reason` and `fill-mask`: one call of the model each. */
import type { Command } from 'commander';
import { printable } from '../runtime/printable.ts';
import { countNumber, interruption, type ModelFlags, withModel, withModelFlags } from './context.ts';
import { print, printJson } from './output.ts';
import { pictureArgument, textArgument, textArguments, wordsArgument } from './stdin.ts';
import { printTable } from './table.ts';

export function addModelCommands(program: Command): void {
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
      .argument('<question...>', 'text, with or without quotes, or - for standard input')
      .option('-k <n>', 'answers', countNumber, 5),
  ).action(answer);
  withModelFlags(
    program
      .command('reason')
      .description('whether a statement about two pictures is true')
      .argument('<left>', 'path, or - for standard input')
      .argument('<right>', 'path, or - for standard input')
      .argument('<statement...>', 'text, with or without quotes, or - for standard input'),
  ).action(reason);
  withModelFlags(
    program
      .command('fill-mask')
      .description('word pieces for each [MASK] of a text')
      .argument('<text...>', 'text, with or without quotes, or - for standard input')
      .option('-i, --image <path>', 'picture to look at; - for its bytes on standard input')
      .option('-k <n>', 'candidates', countNumber, 5),
  ).action(fillMask);
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

async function answer(image: string, given: string[], flags: ModelFlags & { readonly k: number }): Promise<void> {
  const picture = await pictureArgument(image);
  const question = await textArgument(wordsArgument(given)!);
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

async function reason(left: string, right: string, given: string[], flags: ModelFlags): Promise<void> {
  const pictures = [await pictureArgument(left), await pictureArgument(right)] as const;
  const statement = await textArgument(wordsArgument(given)!);
  await withModel(flags, async (model) => {
    const { probability } = await model.reason(pictures, statement, { signal: interruption() });
    if (flags.json) printJson({ images: [left, right], statement, probability });
    else print(`${probability >= 0.5 ? 'true' : 'false'} (probability ${probability.toFixed(4)})`);
  });
}

async function fillMask(
  given: string[],
  flags: ModelFlags & { readonly image?: string; readonly k: number },
): Promise<void> {
  const text = await textArgument(wordsArgument(given)!);
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
