/** The blocks of code of a page, and a run of all of them in order, as a reader would type them. */
import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** Folder of the project. */
export const root = fileURLToPath(new URL('../../..', import.meta.url));
const run = promisify(execFile);

/** A fenced block of a page. */
export interface Block {
  readonly page: string;
  /** What stands behind the fence, or nothing. */
  readonly language: string;
  readonly code: string;
  /** Line of the fence, from 1. */
  readonly line: number;
}

/** Pages that have code: those of the folder docs, and those beside it. */
export async function pages(): Promise<string[]> {
  const docs = (await readdir(join(root, 'docs'))).filter((name) => name.endsWith('.md'));
  return ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', ...docs.sort().map((name) => `docs/${name}`)];
}

/** @returns the fenced blocks of a text, in order */
export function blocksOf(page: string, markdown: string): Block[] {
  return [...markdown.matchAll(/^ {0,3}```(\S*)[^\n]*\n([\s\S]*?)^ {0,3}```$/gm)].map(([, language, code], i, all) => ({
    page,
    language: language!,
    code: code!,
    line: markdown.slice(0, all[i]!.index).split('\n').length,
  }));
}

/** @returns the blocks of a page of the project */
export async function blocksOfPage(page: string): Promise<Block[]> {
  return blocksOf(page, await readFile(join(root, page), 'utf8'));
}

/** A folder in which `mome`, `npx` and an `npm` that installs this clone are commands. */
async function prepare(folder: string): Promise<NodeJS.ProcessEnv> {
  const bin = join(folder, '.bin');
  await mkdir(bin);
  const mome = `exec "${process.execPath}" "${join(root, 'dist/cli.mjs')}" "$@"`;
  const npm = `[ "$1" != install ] || { mkdir -p node_modules; ln -sfn "${root}" node_modules/mome; }`;
  for (const [name, text] of Object.entries({ mome, npm, npx: 'exec "$@"' })) {
    await writeFile(join(bin, name), `#!/bin/sh\n${text}\n`);
    await chmod(join(bin, name), 0o755);
  }
  return { ...process.env, PATH: `${bin}:${process.env.PATH}`, MOME_THREADS: '1' };
}

/**
 * Runs the blocks of a page in `sh` and `js`, one after the other in one shell, so that a `cd` lasts.
 *
 * @param blocks of one page
 * @param folder an empty folder
 * @param given whether the fourteen pictures and their captions lie there already
 * @returns what was printed
 * @throws the first failure, with what was printed until then
 */
export async function runBlocks(blocks: readonly Block[], folder: string, given: boolean): Promise<string> {
  const env = await prepare(folder);
  if (given) {
    await cp(join(root, 'docs/pictures'), join(folder, 'pictures'), { recursive: true });
    const names = (await readdir(join(folder, 'pictures'))).sort();
    const lines = names.map((name) => ({ image: `pictures/${name}`, caption: name.slice(0, -4).replaceAll('-', ' ') }));
    await writeFile(join(folder, 'captions.jsonl'), lines.map((line) => JSON.stringify(line)).join('\n'));
    await run(join(folder, '.bin', 'npm'), ['install', 'mome'], { cwd: folder });
  }
  const parts = blocks.map(({ language, code, line }) => {
    if (language === 'sh') return code;
    const file = `block-${line}.mjs`;
    return `base64 -d > ${file} <<'END_OF_BLOCK'\n${Buffer.from(code).toString('base64')}\nEND_OF_BLOCK\nnode ${file}`;
  });
  await writeFile(join(folder, '.page.sh'), `set -euo pipefail\n${parts.join('\n')}\n`);
  const { stdout } = await run('bash', ['.page.sh'], { cwd: folder, env, timeout: 120_000 });
  return stdout;
}

/** Options of `mome` commands in a shell block that the command does not have. `helpOf` gives the help of a command. */
export function unknownOptions(code: string, helpOf: (command: string) => string): string[] {
  const unknown: string[] = [];
  const commands = code
    .replaceAll('\\\n', ' ')
    .matchAll(
      /(?:^|[\s'])(?:mome|dist\/cli\.mjs)[ \t]+(eval [a-z0-9-]+|[a-z-]+)((?:[^\n#&|"']|"[^"\n]*"|'[^'\n]*')*)/g,
    );
  for (const [, command, rest] of commands) {
    const help = helpOf(command!);
    for (const [, option] of rest!.replace(/"[^"]*"|'[^']*'/g, '').matchAll(/\s(--?[a-z][a-z0-9-]*)/g))
      if (!new RegExp(`(^|[\\s,])${option}(?![\\w-])`, 'm').test(help)) unknown.push(`mome ${command}: ${option}`);
  }
  return unknown;
}
