/** Downloads official models by name and converts each once, however many processes ask for it. */
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import { convertCheckpoint } from '../checkpoint/index.ts';
import { type Kinds, kinds, takeOptions } from '../runtime/arguments.ts';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { replaceFile, writeError } from '../runtime/files.ts';
import { isOffline, mirrored, placesOf } from './cache.ts';
import { type Downloaded, download } from './download.ts';
import { nearNames, type RegisteredModel, type RemoteFile, registered, registry } from './registry.ts';

export interface PullOptions {
  /** Stops the download, which can be gone on with; it rejects with `MOME_ABORTED`. */
  readonly signal?: AbortSignal;
  /** Called with the file, bytes there and bytes in all. */
  readonly onProgress?: (file: string, done: number, total: number) => void;
}

const pullKinds: Kinds<PullOptions> = { signal: kinds.signal, onProgress: kinds.callback };

/** A model of the registry, and whether it is there. */
export interface ModelEntry {
  readonly name: string;
  readonly description: string;
  /** Its folder, once it is there. */
  readonly path?: string;
  /** Bytes on disk: of the model, or of what a download that was stopped has left; 0 without either. */
  readonly bytes: number;
  /** What the weights take in bytes, roughly: four for each parameter of the official page. */
  readonly aboutBytes: number;
}

const sourceSchema = z.record(
  z.string(),
  z.object({ url: z.string(), bytes: z.number(), sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
);

/**
 * Downloads an official model, if it is not there yet, and converts it.
 *
 * @returns the folder of the model, for `Vlmo.load`
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE`, `MOME_INVALID_ARGUMENT`, `MOME_IO`, `MOME_ABORTED`
 * @example
 * const vlmo = await Vlmo.load(await pullModel('vlmo-base-coco'));
 */
export async function pullModel(name: string, options?: PullOptions): Promise<string> {
  const taken = takeOptions('pull', options, pullKinds);
  return pull(await registered('pull', name), taken);
}

/** As {@link pullModel}, of any model. */
export async function pull(model: RegisteredModel, options: PullOptions = {}): Promise<string> {
  const places = placesOf(model.name);
  if (await isThere(places.source)) return places.model;
  check(
    !isOffline(),
    'MOME_NOT_FOUND',
    `pull: expected ${model.name} in ${places.model}, it is not there and MOME_OFFLINE forbids to download it`,
  );
  try {
    await mkdir(places.downloads, { recursive: true });
    await mkdir(dirname(places.seen), { recursive: true });
  } catch (error) {
    throw writeError(error, places.downloads);
  }
  return await alone(places.lock, options.signal, async (signal) => {
    if (await isThere(places.source)) return places.model;
    const files: Record<string, Downloaded> = {};
    for (const remote of [model.vocabulary, model.weights]) {
      // Weights are there twice for a moment: as downloaded and as converted.
      const roomFactor = remote === model.weights ? 1 : 0;
      files[remote.file] = await fetched(remote, places, { ...options, signal }, roomFactor);
    }
    try {
      await convertCheckpoint(join(places.downloads, model.weights.file), places.model, { signal });
    } catch (error) {
      // A file that is no model is neither kept nor taken for what is to be expected the next time.
      if (error instanceof MomeError && !['MOME_ABORTED', 'MOME_IO', 'MOME_OUT_OF_MEMORY'].includes(error.code))
        for (const path of [places.downloads, places.seen]) await rm(path, { recursive: true, force: true });
      throw error;
    }
    await replaceFile(places.source, (path) => writeFile(path, JSON.stringify(files, null, 2)));
    await rm(places.downloads, { recursive: true, force: true });
    return places.model;
  });
}

/** Downloads a file unless an earlier attempt has, and holds it against what the first download saw. */
async function fetched(
  remote: RemoteFile,
  places: ReturnType<typeof placesOf>,
  { signal, onProgress }: PullOptions,
  roomFactor: number,
): Promise<Downloaded> {
  const seen = await recordOf(places.seen);
  const to = join(places.downloads, remote.file);
  const before = seen[remote.file];
  if (before && (await stat(to).catch(() => undefined))?.size === before.bytes) return before;
  const got = await download(mirrored(remote), to, {
    signal,
    roomFactor,
    onProgress: onProgress && ((done, total) => onProgress(remote.file, done, total)),
  });
  if (before && before.sha256 !== got.sha256) {
    await rm(to, { force: true });
    throw new MomeError(
      'MOME_INVALID_FILE',
      `pull: expected ${remote.file} with SHA-256 ${before.sha256}, as at its first download, got ${got.sha256}; if it was replaced on purpose, remove ${places.seen}`,
    );
  }
  await replaceFile(places.seen, (path) => writeFile(path, JSON.stringify({ ...seen, [remote.file]: got }, null, 2)));
  return got;
}

/** Runs `work` while no other process does, and waits for the one that does. */
async function alone<T>(
  path: string,
  given: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { lock } = await import('proper-lockfile');
  const lost = new AbortController();
  const onCompromised = () => lost.abort(new MomeError('MOME_IO', 'pull: another process took the download over'));
  let release: (() => Promise<void>) | undefined;
  while (release === undefined) {
    requireNotAborted(given, 'pull');
    try {
      release = await lock(path, { lockfilePath: path, realpath: false, stale: 10_000, update: 2000, onCompromised });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ELOCKED') throw writeError(error, path);
      await setTimeout(200);
    }
  }
  try {
    return await work(given ? AbortSignal.any([given, lost.signal]) : lost.signal);
  } finally {
    await release().catch(() => undefined);
  }
}

/** All models of the registry, those that are there first. */
export async function listModels(): Promise<ModelEntry[]> {
  const entries = await Promise.all(
    [...registry.values()].map(async ({ name, description, millions }): Promise<ModelEntry> => {
      const { model, source, downloads } = placesOf(name);
      const there = await isThere(source);
      const bytes = await bytesIn(there ? model : downloads);
      return { name, description, ...(there && { path: model }), bytes, aboutBytes: millions * 4e6 };
    }),
  );
  return entries.sort((a, b) => Number(b.path !== undefined) - Number(a.path !== undefined));
}

/**
 * Removes a model and what a stopped download has left. The checksums of its first download stay.
 *
 * @returns the bytes that are free now
 * @throws MomeError `MOME_NOT_FOUND`, `MOME_IO`, `MOME_ABORTED`
 */
export async function removeModel(name: string, { signal }: { readonly signal?: AbortSignal } = {}): Promise<number> {
  await registered('models remove', name);
  const { model, source, downloads, lock } = placesOf(name);
  const bytes = (await bytesIn(model)) + (await bytesIn(downloads));
  check(bytes > 0, 'MOME_NOT_FOUND', `models remove: expected ${name} in ${model}, it is not there`);
  await mkdir(dirname(lock), { recursive: true });
  return await alone(lock, signal, async () => {
    await rm(source, { force: true }); // First: from here on the model is not there.
    await rm(model, { recursive: true, force: true });
    await rm(downloads, { recursive: true, force: true });
    return bytes;
  });
}

/**
 * What a caller named as a model: a path, or a name of the registry. A path that is there wins.
 *
 * @throws MomeError `MOME_NOT_FOUND` for a name that is not there and may not be downloaded; else as {@link pullModel}
 */
export async function modelPath(
  where: string,
  given: string,
  options: PullOptions & { readonly download?: boolean } = {},
): Promise<string> {
  if (!/^[\w-]+$/.test(given) || (await isThere(given))) return given;
  const model = registry.get(given);
  if (!model && given.toLowerCase().startsWith('vlmo'))
    throw new MomeError(
      'MOME_NOT_FOUND',
      `${where}: expected a model folder, a checkpoint or the name of a model, there is no ${given}${await nearNames(given)}`,
    );
  if (!model) return given;
  const places = placesOf(given);
  if (await isThere(places.source)) return places.model;
  check(
    options.download && !isOffline(),
    'MOME_NOT_FOUND',
    isOffline()
      ? `${where}: expected ${given} in ${places.model}, it is not there and MOME_OFFLINE forbids to download it`
      : `${where}: expected ${given} in ${places.model}, it is not there; "mome pull ${given}" or the option download: true fetches it`,
  );
  const { download: _, ...pulling } = options;
  return await pull(model, pulling);
}

async function recordOf(path: string): Promise<Record<string, Downloaded>> {
  try {
    return sourceSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new MomeError('MOME_INVALID_FILE', `${path}: expected a list of checksums; remove it to begin a new one`, {
      cause: error,
    });
  }
}

const isThere = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined)) !== undefined;

async function bytesIn(folder: string): Promise<number> {
  const names = await readdir(folder).catch(() => []);
  const sizes = await Promise.all(
    names.map(async (name) => (await stat(join(folder, name)).catch(() => undefined))?.size),
  );
  return sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
}
