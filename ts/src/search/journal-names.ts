/**
 * Journals beside an index, which live as long as one build: their names tell who made them, so that the journal of a killed process can
 * be removed and that of a running one stays.
 *
 * A name is `<index>.<machine>-<process>-<instance>-<number>.journal`.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readlinkSync } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { namesIn } from '../runtime/commit.ts';

/** After so many milliseconds without a change a file of another machine counts as left behind: a day. */
const abandonedAfter = 24 * 60 * 60 * 1000;

/** Names this machine, or this container: process numbers mean something within one alone. */
const machine = createHash('sha256').update(`${hostname()} ${processNamespace()}`).digest('hex').slice(0, 8);
/** Names this copy of the module: threads of a process have one each. */
const instance = randomBytes(4).toString('hex');
const pattern = /^\.([0-9a-f]{8})-(\d{1,10})-([0-9a-f]{8})-(\d+)\.journal$/;

let count = 0;
/** Journals that this copy of the module is at work on. */
const inUse = new Set<string>();

function processNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}

/** A new name beside `target`, in use until {@link releaseJournal}. */
export function journalBeside(target: string): string {
  const path = `${target}.${machine}-${process.pid}-${instance}-${count++}.journal`;
  inUse.add(path);
  return path;
}

/** Says that nobody is at work on the file any more; it may still be there. */
export function releaseJournal(path: string): void {
  inUse.delete(path);
}

/** The journals beside `target`, of whoever made them. */
export async function journalsOf(target: string): Promise<string[]> {
  const base = basename(target);
  const names: string[] = [];
  try {
    for await (const name of namesIn(dirname(target)))
      if (name.startsWith(base) && pattern.test(name.slice(base.length))) names.push(name);
  } catch {
    return []; // no such folder
  }
  return names.sort().map((name) => join(dirname(target), name));
}

/** Removes the journals beside `target` that nobody is at work on. Those that cannot be removed stay. */
export async function removeLeftovers(target: string): Promise<void> {
  for (const path of await journalsOf(target)) {
    if (await isLeftBehind(path, basename(target).length)) await rm(path, { force: true }).catch(() => {});
  }
}

async function isLeftBehind(path: string, prefixLength: number): Promise<boolean> {
  const [, onMachine, processId, byInstance] = pattern.exec(basename(path).slice(prefixLength)) ?? [];
  if (onMachine === machine && byInstance === instance) return !inUse.has(path);
  if (onMachine === machine && !isRunning(Number(processId))) return true;
  const info = await stat(path).catch(() => undefined);
  return info !== undefined && Date.now() - info.mtimeMs > abandonedAfter;
}

function isRunning(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
