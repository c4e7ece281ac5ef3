/**
 * A child process with pipes as standard input and output. `child_process.spawn` copies the page tables of this process first, which holds
 * the event loop for 50 ms at a gigabyte and 115 ms at three; this one takes a millisecond or two, whatever this process holds.
 */
import { Socket } from 'node:net';
import { constants } from 'node:os';
import { native } from './addon.ts';

/** Milliseconds between two looks at a process that is about to end. */
const pause = 5;

export class ChildProcess {
  readonly pid: number;
  /** Its standard input and output. */
  readonly stdin: Socket;
  readonly stdout: Socket;
  #ended = false;

  /**
   * @param ended called once the process has ended: with its exit code, or the signal that ended it
   * @throws MomeError `MOME_IO` with the reason of the system
   */
  constructor(
    file: string,
    args: readonly string[],
    environment: NodeJS.ProcessEnv,
    ended: (code: number | null, signal: string | null) => void,
  ) {
    const variables = Object.entries(environment).flatMap(([name, value]) =>
      value === undefined ? [] : [`${name}=${value}`],
    );
    const { pid, input, output } = native((addon) => addon.startProcess(file, [file, ...args], variables));
    this.pid = pid;
    this.stdin = new Socket({ fd: input, readable: false, writable: true });
    this.stdout = new Socket({ fd: output, readable: true, writable: false });
    // Writing to a process that ended: its end is told anyway.
    this.stdin.on('error', () => {});
    this.stdout.on('error', () => {});
    this.stdout.on('close', () => this.#collect(ended));
  }

  /** Ends the process, whatever it is doing. Calling it again does nothing. */
  kill(): void {
    if (!this.#ended) process.kill(this.pid, 'SIGKILL');
    this.stdin.destroy();
    this.stdout.destroy();
  }

  /** Whether the process keeps this one alive. */
  keepAlive(alive: boolean): void {
    for (const stream of [this.stdin, this.stdout]) {
      if (alive) stream.ref();
      else stream.unref();
    }
  }

  /** Its output has ended, so it has, or is about to. Until it is collected, its number stands for no other process. */
  #collect(ended: (code: number | null, signal: string | null) => void): void {
    const end = native((addon) => addon.endOfProcess(this.pid));
    if (end === undefined) {
      setTimeout(() => this.#collect(ended), pause).unref();
      return;
    }
    this.#ended = true;
    const names = Object.entries(constants.signals);
    ended(end.code, names.find(([, number]) => number === end.signal)?.[0] ?? null);
  }
}
