/** Says what is wrong with how a reader took a file. */
import { MomeError } from '../../src/runtime/errors.ts';
import { loopGap } from '../loop-gap.ts';

/** Longest turn of the event loop, longest message, most time and memory of one small file. */
const maxTurn = 50;
const maxMessage = 2000;
const maxSeconds = 10;
const maxMemory = 256 * 2 ** 20;

/** Reads one file with a reader. Returns what is wrong, in words, or undefined. */
export async function judge(read: () => Promise<unknown>): Promise<string | undefined> {
  const first = await judgeOnce(read);
  // Garbage of earlier files and other processes also take time and memory: what a file does, it does each time.
  if (first === undefined || !first.again) return first?.fault;
  for (let again = 0; again < 6; again++) if ((await judgeOnce(read)) === undefined) return undefined;
  return first.fault;
}

interface Fault {
  readonly fault: string;
  /** Whether other load may be the reason. */
  readonly again: boolean;
}

async function judgeOnce(read: () => Promise<unknown>): Promise<Fault | undefined> {
  const memory = process.memoryUsage.rss();
  const start = performance.now();
  const escaped: unknown[] = [];
  const { held, error } = await catchEscaped(escaped, () => loopGap(() => inTime(read())));
  const grown = process.memoryUsage.rss() - memory;
  if (escaped.length > 0) return { fault: `an exception outside a promise: ${String(escaped[0])}`, again: false };
  if (error !== undefined && !(error instanceof MomeError))
    return { fault: `an error without a code: ${error instanceof Error ? error.stack : String(error)}`, again: false };
  if (error instanceof MomeError && error.code === 'MOME_INTERNAL')
    return { fault: `MOME_INTERNAL: ${error.stack}`, again: false };
  if (error instanceof MomeError && error.message.length > maxMessage)
    return { fault: `a message of ${error.message.length} characters`, again: false };
  if (grown > maxMemory) return { fault: `${(grown / 2 ** 20).toFixed(0)} MiB of memory`, again: false };
  if (held > maxTurn) return { fault: `a turn of ${held.toFixed(0)} ms`, again: true };
  if (performance.now() - start > 1000 * maxSeconds) return { fault: `more than ${maxSeconds} s`, again: true };
  return undefined;
}

/** Fails after some time, so that a file on which a reader waits for ever is found. */
async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${3 * maxSeconds} s`)), 3000 * maxSeconds);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs `work` and gathers exceptions and rejections that nobody catches, which would end the process. */
async function catchEscaped<T>(escaped: unknown[], work: () => Promise<T>): Promise<T> {
  const events = ['uncaughtException', 'unhandledRejection'] as const;
  const before = events.map((event) => process.listeners(event as 'uncaughtException'));
  const gather = (error: unknown) => escaped.push(error);
  for (const event of events) {
    process.removeAllListeners(event);
    process.on(event, gather);
  }
  try {
    const result = await work();
    // A rejection is reported after the turn in which it happened, and a callback may come a turn later.
    for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
    return result;
  } finally {
    for (const [i, event] of events.entries()) {
      process.removeAllListeners(event);
      for (const listener of before[i]!) process.on(event, listener);
    }
  }
}
