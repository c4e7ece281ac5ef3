/**
 * Opens the files of a model: weights, `config.json`, vocabulary and answers, in one folder or beside a checkpoint.
 */
import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { VlmoConfig } from '../architecture/config.ts';
import { type Commit, finishAbandoned, namesIn, readCommit } from '../runtime/commit.ts';
import { check, MomeError } from '../runtime/errors.ts';
import { InputFile, readText, type TextFile } from '../runtime/input-file.ts';
import {
  answersLimits,
  configJsonLimits,
  type FusionSettings,
  readAnswers,
  readConfig,
  readFusion,
} from './model-settings.ts';

export const weightsName = 'model.safetensors';
export const configName = 'config.json';
export const answersName = 'answers.json';
const vocabularyNames = ['tokenizer.json', 'vocab.txt'];
const checkpointName = /\.(?:safetensors|pt|pth|ckpt|bin)$/;
const shardsEnding = '.index.json';
/** Whether a file may be a part of a model; a folder may hold very many others. */
const isPart = (name: string): boolean =>
  checkpointName.test(name) ||
  name.endsWith(shardsEnding) ||
  [configName, answersName, ...vocabularyNames].includes(name);
/** Size limit of a vocabulary file. */
export const vocabularyOptions = { what: 'a vocabulary', maxBytes: 8 * 2 ** 20 } as const;
/** How often files are opened again that change meanwhile, and the pause before each time, in milliseconds. */
const maxOpenings = 100;
const pause = 10;

/** The open files of a model. All belong together, even if another process replaces the files meanwhile. */
export interface ModelFiles {
  /** Path of the weights. */
  readonly weights: string;
  readonly weightsFile: InputFile;
  /** The sizes in `config.json`; undefined without that file. @throws MomeError `MOME_INVALID_CONFIG`, `MOME_INVALID_FILE` */
  readonly readConfig: () => Promise<VlmoConfig | undefined>;
  /** Settings of re-ranking in `config.json`, or their defaults. @throws MomeError `MOME_INVALID_CONFIG`, `MOME_INVALID_FILE` */
  readonly readFusion: () => Promise<FusionSettings>;
  /** Path of the vocabulary. */
  readonly vocabulary: string | undefined;
  /** The vocabulary, read once. @throws MomeError `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_IO` */
  readonly readVocabulary: () => Promise<TextFile | undefined>;
  readonly answers: readonly string[] | undefined;
  /** Closes the files. Otherwise they are closed when the garbage collector frees this object. */
  close(): void;
}

/**
 * Opens a model's files. `path` is a folder, or a checkpoint with other files beside it. If another process replaces files meanwhile, as a
 * deployment does, they are opened again until all belong together.
 *
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_TOO_LARGE`, `MOME_IO`
 */
export async function openModelFiles(path: string): Promise<ModelFiles> {
  const info = await stat(path).catch(() => undefined);
  const folder = info?.isDirectory() ? path : dirname(path);
  const find = (view: FolderView): string => (info?.isDirectory() ? weightsIn(view, path) : basename(path));
  const isPending = !info && (await readCommit(folder))?.temporaries.has(basename(path));
  // Says what hinders: nothing there, a link to nothing or to itself, a missing right.
  if (!info && !isPending) (await InputFile.open(path, 'a model folder or a checkpoint')).close();
  for (let opening = 1; opening <= maxOpenings; opening++) {
    const view = await viewOf(folder);
    let files: OpenFiles | undefined;
    let failure: unknown;
    try {
      files = await openFiles(view, find(view));
    } catch (error) {
      failure = error;
    }
    const now = await viewOf(folder);
    const isSame = layoutOf(view, find) === layoutOf(now, find);
    if (files && isSame && (await areCurrent(files, find(view), now)))
      return await modelFilesOf(folder, files, find(view));
    for (const file of files?.values() ?? []) file.close();
    if (failure !== undefined && isSame) throw failure;
    await setTimeout(pause);
  }
  throw new MomeError(
    'MOME_IO',
    `${path}: expected files that stay as they are while they are opened, they changed ${maxOpenings} times`,
  );
}

/** The names in a folder, with a change that was not finished taken as finished. */
interface FolderView {
  readonly folder: string;
  readonly names: ReadonlySet<string>;
  readonly commit: Commit | undefined;
  has(name: string): boolean;
}

/** Open files by the names they stand for. */
type OpenFiles = ReadonlyMap<string, InputFile>;

async function viewOf(folder: string): Promise<FolderView> {
  const commit = await readCommit(folder);
  if (commit) await finishAbandoned(folder, commit);
  const names = new Set<string>();
  const pending = new Set(commit?.temporaries.values());
  try {
    for await (const name of namesIn(folder)) if (isPart(name) || pending.has(name)) names.add(name);
  } catch (error) {
    throw new MomeError('MOME_IO', `${folder}: expected a folder that can be listed`, { cause: error });
  }
  const has = (name: string) => names.has(name) || names.has(commit?.temporaries.get(name) ?? name);
  return { folder, names, commit, has };
}

/** Where the file that counts as `name` lies. */
function placeOf({ folder, names, commit }: FolderView, name: string): string {
  const temporary = commit?.temporaries.get(name);
  return join(folder, temporary !== undefined && names.has(temporary) ? temporary : name);
}

async function openFiles(view: FolderView, weights: string): Promise<OpenFiles> {
  const vocabulary = vocabularyNames.find((name) => view.has(name));
  const wanted: [name: string, what: string][] = [];
  if (view.has(configName)) wanted.push([configName, 'a configuration']);
  if (vocabulary !== undefined) wanted.push([vocabulary, 'a vocabulary']);
  if (view.has(answersName)) wanted.push([answersName, 'a list of answers']);
  // Last: when they are opened they are current, and so are the others if they still are afterwards.
  wanted.push([weights, 'a checkpoint']);
  const files = new Map<string, InputFile>();
  try {
    for (const [name, what] of wanted) files.set(name, await InputFile.open(placeOf(view, name), what));
    return files;
  } catch (error) {
    for (const file of files.values()) file.close();
    throw error;
  }
}

/** Which parts of a model there are and where they lie, as a text to compare. */
function layoutOf(view: FolderView, find: (view: FolderView) => string): string {
  const parts = [configName, answersName, ...vocabularyNames];
  try {
    parts.push(find(view));
  } catch (error) {
    parts.push((error as Error).message);
  }
  return JSON.stringify([view.commit?.owner, parts.map((name) => [view.has(name), placeOf(view, name)])]);
}

/** Whether the names of all files but the weights still stand for them: a change that is being finished moves them. */
async function areCurrent(files: OpenFiles, weights: string, view: FolderView): Promise<boolean> {
  for (const [name, file] of files) {
    if (name === weights) continue;
    const temporary = view.commit?.temporaries.get(name);
    const places = [name, ...(temporary === undefined ? [] : [temporary])];
    const found = await Promise.all(places.map((place) => file.isAt(join(view.folder, place))));
    if (!found.includes(true)) return false;
  }
  return true;
}

async function modelFilesOf(folder: string, files: OpenFiles, weights: string): Promise<ModelFiles> {
  try {
    const textOf = async (name: string, what: string, maxBytes: number) => {
      const file = files.get(name);
      return file && (await readText(file, { what, maxBytes }));
    };
    const configText = await textOf(configName, 'a configuration', configJsonLimits.bytes);
    const answersText = await textOf(answersName, 'a list of answers', answersLimits.bytes);
    const vocabulary = vocabularyNames.find((name) => files.has(name));
    let vocabularyText: Promise<TextFile | undefined> | undefined;
    const weightsFile = files.get(weights)!;
    const at = (text: TextFile, name: string): TextFile => ({ ...text, path: join(folder, name) });
    return {
      weights: join(folder, weights),
      weightsFile,
      readConfig: async () => configText && readConfig(at(configText, configName)),
      readFusion: async () => readFusion(configText && at(configText, configName), folder),
      vocabulary: vocabulary && join(folder, vocabulary),
      readVocabulary: () => {
        vocabularyText ??= (async () => {
          const file = vocabulary && files.get(vocabulary);
          return file ? at(await readText(file, vocabularyOptions), vocabulary) : undefined;
        })();
        return vocabularyText;
      },
      answers: answersText && (await readAnswers(at(answersText, answersName))),
      close: () => {
        for (const file of files.values()) file.close();
      },
    };
  } catch (error) {
    for (const file of files.values()) file.close();
    throw error;
  }
}

function weightsIn(view: FolderView, folder: string): string {
  if (view.has(weightsName)) return weightsName;
  const others = [...view.names].filter((name) => checkpointName.test(name));
  const shards = [...view.names].some((name) => name.endsWith(shardsEnding));
  check(
    others.length === 1,
    'MOME_NOT_FOUND',
    shards
      ? `${folder}: expected ${weightsName} or one checkpoint, found one in ${others.length} parts; save it as one file`
      : `${folder}: expected ${weightsName} or one checkpoint, found ${others.length || 'none'}`,
  );
  return others[0]!;
}
