/**
 * The moment at which several files of a folder change: names of temporary files, the list `.mome-commit`, and files that killed runs
 * leave. Writers use `writeTogether` of files.ts.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  type FileHandle,
  link,
  lstat,
  open,
  opendir,
  readFile,
  readlink,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { MomeError } from './errors.ts';
import { InputFile, readText } from './input-file.ts';
import { type JsonLimits, parseJson } from './json.ts';
import { Pace } from './pace.ts';

const commitName = '.mome-commit';
/** Limits of a list of files to rename. */
const commitLimits: JsonLimits = { bytes: 2 ** 20, depth: 4, values: 2 ** 14 };

/** `<name>.<machine>-<process>-<its start>-<random>.tmp`: whose file it is, and whether they can still be at work. */
const temporaryPattern = /^(.+)\.([0-9a-f]{8}-\d+-\d+-[0-9a-f]{8})\.tmp$/s;
const plainName = z
  .string()
  .min(1)
  .refine((name) => !/[/\0]/.test(name) && name !== '.' && name !== '..', 'expected a plain name');
const commitSchema = z.object({
  version: z.literal(1),
  owner: z.string(),
  files: z.array(z.tuple([plainName.regex(temporaryPattern), plainName])).max(1000),
});

/** A change of several files that began and may not be finished. */
export interface Commit {
  readonly owner: string;
  /** Final name -> temporary name. */
  readonly temporaries: ReadonlyMap<string, string>;
}

/** A name for the temporary files of one call of this process. */
export async function newTag(): Promise<string> {
  const start = (await processState(process.pid))?.start ?? '0';
  return `${await machine()}-${process.pid}-${start}-${randomBytes(4).toString('hex')}`;
}

/** The name under which the call with `tag` writes `name`. */
export function temporaryName(name: string, tag: string): string {
  return `${name}.${tag}.tmp`;
}

/**
 * Puts the list of `renames` (temporary name -> final name) into the folder: from its return on the new files count.
 *
 * @returns does the renames and removes the list
 */
export async function startCommit(
  folder: string,
  tag: string,
  renames: ReadonlyMap<string, string>,
): Promise<() => Promise<void>> {
  const temporary = join(folder, temporaryName(commitName, tag));
  const text = JSON.stringify({ version: 1, owner: tag, files: [...renames] });
  try {
    await writeFile(temporary, text, { flush: true });
    await place(temporary, join(folder, commitName), folder);
  } finally {
    await rm(temporary, { force: true }).catch(() => {});
  }
  await syncFolder(folder);
  return () => rollForward(folder, { owner: tag, temporaries: new Map([...renames].map(([from, to]) => [to, from])) });
}

/** Gives a list its name where no other has it: another's change is finished first. */
async function place(temporary: string, list: string, folder: string): Promise<void> {
  for (;;) {
    try {
      await link(temporary, list);
      return;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') await takeOverCommit(folder);
      // A file system without hard links.
      else if (
        code === 'EPERM' ||
        code === 'ENOTSUP' ||
        code === 'EOPNOTSUPP' ||
        code === 'ENOSYS' ||
        code === 'EMLINK'
      )
        return await rename(temporary, list);
      else throw error;
    }
  }
}

/** The change that began in `folder` and is not finished. @throws MomeError `MOME_INVALID_FILE` for a list that is none, `MOME_IO` */
export async function readCommit(folder: string): Promise<Commit | undefined> {
  const path = join(folder, commitName);
  let file: InputFile;
  try {
    file = await InputFile.open(path, 'a list of files to rename');
  } catch (error) {
    // A link to nothing keeps the name from others, so that it is not the same as no list.
    const isLink = (await lstat(path).catch(() => undefined))?.isSymbolicLink();
    if (error instanceof MomeError && error.code === 'MOME_NOT_FOUND' && !isLink) return undefined;
    throw error;
  }
  try {
    const { text } = await readText(file, { what: 'a list of files to rename', maxBytes: commitLimits.bytes });
    const parsed = commitSchema.safeParse(await parseJson(text, path, commitLimits));
    if (!parsed.success)
      throw new MomeError(
        'MOME_INVALID_FILE',
        `${path}: expected a list of files to rename; remove it if it is not from mome`,
      );
    const { owner, files } = parsed.data;
    return { owner, temporaries: new Map(files.map(([from, to]) => [to, from])) };
  } finally {
    file.close();
  }
}

/** Finishes a change that this or another process began in `folder`. */
export async function takeOverCommit(folder: string): Promise<void> {
  const commit = await readCommit(folder);
  if (commit) await rollForward(folder, commit);
}

/** Finishes a change whose process has ended, where the rights allow it. Readers need not: they look through the list. */
export async function finishAbandoned(folder: string, commit: Commit): Promise<void> {
  if (await mayBeAtWork(commit.owner)) return;
  await rollForward(folder, commit).catch(() => {});
}

/** Several processes may do it at once: a temporary file that is gone has been renamed. */
async function rollForward(folder: string, { owner, temporaries }: Commit): Promise<void> {
  for (const [name, temporary] of temporaries) {
    await rename(join(folder, temporary), join(folder, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }
  await syncFolder(folder);
  // Another process may have finished this change and begun its own.
  if ((await readCommit(folder))?.owner === owner) await rm(join(folder, commitName), { force: true });
}

/** Removes temporary files of processes that have ended. Files of running processes and of an unfinished change stay. */
export async function removeLeftovers(folder: string): Promise<void> {
  const kept = new Set((await readCommit(folder))?.temporaries.values());
  try {
    for await (const name of namesIn(folder)) {
      const tag = temporaryPattern.exec(name)?.[2];
      if (tag === undefined || kept.has(name) || (await mayBeAtWork(tag))) continue;
      await rm(join(folder, name), { force: true }).catch(() => {});
    }
  } catch (error) {
    // A folder may be open to writing and not to listing.
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error;
  }
}

/** The names in a folder of any size, while other events run. */
export async function* namesIn(folder: string): AsyncGenerator<string, void> {
  const pace = new Pace();
  for await (const { name } of await opendir(folder, { bufferSize: 1024 })) {
    await pace.rest();
    yield name;
  }
}

/** Brings the names in a folder to the disk; file systems that cannot do that do it by themselves. */
export async function syncFolder(folder: string): Promise<void> {
  let file: FileHandle | undefined;
  try {
    file = await open(folder, 'r');
    await file.sync();
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!['EINVAL', 'ENOTSUP', 'EPERM', 'EACCES'].includes(code)) throw error;
  } finally {
    await file?.close();
  }
}

/** Whether the process of `tag` may still run: one of another machine may, as far as anybody here can tell. */
async function mayBeAtWork(tag: string): Promise<boolean> {
  const [host, pid, start] = tag.split('-');
  if (host !== (await machine())) return true;
  const state = await processState(Number(pid));
  if (state) return !state.ended && state.start === start;
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    // The process is there, and belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

let machineName: Promise<string> | undefined;

/** Names the machine since its last start and the space of its process numbers: containers have their own. */
function machine(): Promise<string> {
  machineName ??= (async () => {
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
    const space = await readlink('/proc/self/ns/pid').catch(() => '');
    return createHash('sha256').update(`${hostname()}\n${boot}\n${space}`).digest('hex').slice(0, 8);
  })();
  return machineName;
}

/** When a process was started, in ticks since the machine was; undefined where the system does not tell. */
async function processState(pid: number): Promise<{ readonly start: string; readonly ended: boolean } | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  // The name, in parentheses, may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, start] = [fields[0], fields[19]];
  return start === undefined ? undefined : { start, ended: state === 'Z' || state === 'X' };
}
