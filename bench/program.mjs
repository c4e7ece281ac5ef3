/** Runs `mome_bench`, which prints lines of JSON. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const benchProgram = join(dirname(dirname(fileURLToPath(import.meta.url))), 'build', 'mome_bench');

/**
 * @param {readonly string[]} args
 * @param {{ signal?: AbortSignal, onLine?: (line: any) => void, program?: string }} [options] `onLine` gets each line when it is there
 * @returns {Promise<any[]>} all lines
 * @throws {Error} the program failed; the reason of the signal when that fired
 */
export async function benchLines(args, { signal, onLine, program = benchProgram } = {}) {
  signal?.throwIfAborted();
  // In a process group of its own: what interrupts the bench in a terminal reaches the program through the signal alone.
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  const stop = () => child.kill('SIGKILL');
  signal?.addEventListener('abort', stop);
  try {
    const ended = once(child, 'close');
    ended.catch(() => {}); // a program that cannot be started is reported below
    const lines = [];
    for await (const text of createInterface({ input: child.stdout })) {
      if (!text || signal?.aborted) continue;
      const line = JSON.parse(text);
      lines.push(line);
      onLine?.(line);
    }
    const [code, killed] = await ended;
    signal?.throwIfAborted();
    if (code !== 0)
      throw new Error(`mome_bench ${args.join(' ')}: expected to end well, got ${killed ?? `exit code ${code}`}`);
    return lines;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}
