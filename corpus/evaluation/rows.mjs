/** The rows of the evaluation: what is measured on which held-out set, and how. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import {
  evaluateNlvr2,
  evaluatePairs,
  evaluateQueries,
  evaluateRetrieval,
  evaluateVqa,
  openPairs,
  picturesOfFolder,
  picturesOfStyle,
  readNlvr2,
  readQueries,
  readVqa,
} from '../../dist/train.mjs';
import { oneEachOf, writeQueries } from './held-out.mjs';
import { searchByName } from './names.mjs';

const root = new URL('../..', import.meta.url).pathname;
const sentences = join(root, 'corpus', 'natural-sentences.json');
/** How a path stands in a command that a reader runs in the clone. */
const shown = (path) => (relative(root, path).startsWith('..') ? path : relative(root, path));

/** Labels both ways: recall at 1 and 10, dual and re-ranked. */
function labelRow(report, { n, byName, chance = n, command, bound }) {
  const both = (scores, at) => scores && [scores.textToImage[at], scores.imageToText[at]];
  return {
    count: `${n} drawings, one label each`,
    metrics: {
      'R@1': {
        dual: both(report.dual, 'r1'),
        reranked: both(report.reranked, 'r1'),
        chance: 1 / chance,
        byName: byName.at1,
      },
      'R@10': {
        dual: both(report.dual, 'r10'),
        reranked: both(report.reranked, 'r10'),
        chance: 10 / chance,
        byName: byName.at10,
      },
    },
    bound,
    command,
  };
}

/** Searches with several right results; `count` says which of the two ways to count is the row's figure. */
function queriesRow(report, names, { depth, command, bound, pairs = false }) {
  const at = `at${depth}`;
  const metric = (way) => ({
    dual: report.dual[way][at],
    reranked: report.reranked?.[way][at] ?? null,
    chance: report.chance[way][at],
    byName: names[way][at],
    best: report.best[way][at],
  });
  const [first, second] = pairs ? ['recall', 'success'] : ['success', 'recall'];
  const title = { success: `success at ${depth}`, recall: `recall of pairs at ${depth}` };
  return {
    count: `${report.queries} queries, ${report.pairs} pairs, ${report.pictures} drawings`,
    metrics: { [title[first]]: metric(first), [title[second]]: metric(second) },
    bound,
    command,
  };
}

async function noto({ model, k, style = 'noto', signal }) {
  const report = await evaluateRetrieval({ model, style, k, signal });
  const pictures = await picturesOfStyle(style, 8, signal);
  const named = pictures.map(({ name }) => ({ name, title: name }));
  const names = searchByName(
    named,
    pictures.map(({ name }) => ({ query: name, right: [name] })),
  );
  return labelRow(report, {
    n: report.n,
    byName: names.success,
    command: `mome eval retrieval --style ${style} -k ${k}`,
    bound: 'R@1 0.478, 0.459; R@10 0.799, 0.788',
  });
}

async function family({ model, k, folder, signal }) {
  const items = await oneEachOf(folder);
  const data = join(folder, 'one-each.jsonl');
  const dataset = await openPairs(data, { size: model.config.imageSize });
  const report = await evaluatePairs({ model, dataset, k, signal });
  const named = items.map(({ image, name }) => ({ name: image, title: name }));
  const names = searchByName(
    named,
    items.map(({ caption, image }) => ({ query: caption, right: [image] })),
  );
  return labelRow(report, {
    n: items.length,
    byName: names.success,
    command: `mome eval retrieval --data ${shown(data)} -k ${k}`,
    bound: 're-ranked 0.02 above dual in R@1, both ways',
  });
}

/** A row of a folder with `captions.jsonl`. */
const searchOf =
  (kind, options) =>
  async ({ model, k, folder, signal }) => {
    const { items } = await writeQueries(folder, kind);
    const file = join(folder, 'queries.json');
    const queries = await readQueries(file);
    const report = await evaluateQueries({ model, pictures: await picturesOfFolder(folder), queries, k, signal });
    const names = searchByName(
      items.map(({ image, name }) => ({ name: image, title: name })),
      queries,
    );
    const command = `mome eval queries --data ${shown(file)} --images ${shown(folder)} -k ${k}`;
    return queriesRow(report, names, { ...options, command });
  };

async function natural({ model, k, split, signal }) {
  const queries = await readQueries(sentences, split);
  const pictures = await picturesOfStyle('noto', model.config.imageSize, signal);
  const report = await evaluateQueries({ model, pictures, queries, k, signal });
  const names = searchByName(
    pictures.map(({ name }) => ({ name, title: name })),
    queries,
  );
  const command = `mome eval queries --data corpus/natural-sentences.json --style noto --split ${split} -k ${k}`;
  return queriesRow(report, names, { depth: 5, command, bound: 'success at 5 0.45' });
}

async function questions({ model, folder, signal }) {
  const part = folder.split('/').at(-1);
  const options = { images: join(folder, 'pictures'), annotations: join(folder, 'annotations.json') };
  const report = await evaluateVqa({
    model,
    questions: await readVqa(join(folder, 'questions.json'), options),
    signal,
  });
  const summary = JSON.parse(await readFile(join(folder, '..', 'scenes.json'), 'utf8'));
  const { byTemplate, byText } = summary.parts[part].withoutPicture;
  return {
    count: `${report.questions} questions`,
    metrics: {
      accuracy: { dual: report.accuracy, reranked: null, chance: Math.max(byTemplate, byText), byName: null },
    },
    bound: '0.15 above the best answer without the picture, which stands as chance',
    command: `mome eval vqa --questions ${shown(join(folder, 'questions.json'))} --annotations ${shown(options.annotations)} --images ${shown(options.images)}`,
    details: report.accuracies,
  };
}

async function statements({ model, folder, signal }) {
  const file = join(folder, 'statements.jsonl');
  const images = join(folder, 'pairs');
  const report = await evaluateNlvr2({ model, statements: await readNlvr2(file, { images }), signal });
  return {
    count: `${report.statements} statements`,
    metrics: { accuracy: { dual: report.accuracy, reranked: null, chance: 0.5, byName: null } },
    bound: '0.15 above the best answer without the pictures, which is chance: each sentence is as often true as false',
    command: `mome eval nlvr2 --data ${shown(file)} --images ${shown(images)}`,
    details: { consistency: report.consistency },
  };
}

/**
 * The rows of a split.
 *
 * @param folders.corpus the built corpus, or undefined to leave its rows out
 * @param folders.scenes composed scenes
 * @returns `{ id, title, needs, measure }`; `needs` names what the model must be able to do
 */
export function rowsOf(split, { corpus, scenes }) {
  const held = (name) => corpus && join(corpus, split, name);
  const composed = join(scenes, split);
  const isTest = split === 'test';
  const concepts = { depth: 10, bound: 'aim 0.30' };
  const rows = [
    isTest && { id: 'noto', title: 'Noto, label (style held out)', measure: noto },
    isTest && { id: 'family', title: 'held-out family, label', folder: held('family'), measure: family },
    !isTest && { id: 'style', title: 'fxemoji, label (style held out)', folder: held('style'), measure: family },
    isTest && {
      id: 'terms',
      title: 'search terms of Font Awesome that are not in the name',
      folder: held('fontawesome'),
      measure: searchOf('terms', { depth: 10, pairs: true, bound: '20 x chance; aim 0.35' }),
    },
    { id: 'concepts', title: 'held-out concepts', folder: held('concepts'), measure: searchOf('concepts', concepts) },
    isTest && {
      id: 'openclipart',
      title: 'titles of Openclipart',
      folder: held('openclipart'),
      measure: searchOf('captions', { depth: 10, bound: 'aim 0.40' }),
    },
    isTest && {
      id: 'furniture',
      title: 'names of Sweet Home 3D',
      folder: held('furniture'),
      measure: searchOf('captions', { depth: 10, bound: '' }),
    },
    isTest && {
      id: 'pinhead',
      title: 'pinhead names of four and more words',
      folder: held('pinhead'),
      measure: searchOf('captions', { depth: 10, bound: '' }),
    },
    { id: 'natural', title: 'sentences as people ask, on Noto', measure: natural },
    {
      id: 'questions',
      title: 'questions about composed scenes',
      folder: composed,
      needs: 'answer',
      measure: questions,
    },
    { id: 'statements', title: 'statements about two scenes', folder: composed, needs: 'reason', measure: statements },
  ].filter(Boolean);
  return rows.map((row) => ({
    ...row,
    isThere: !('folder' in row) || (row.folder !== undefined && existsSync(row.folder)),
  }));
}
