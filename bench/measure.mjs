/** Alternating measurement: one call of each contestant per round, with a rest between, timed by tinybench. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Bench } from 'tinybench';

/**
 * Milliseconds of rest before each call. Runtimes keep their threads spinning for a while after a call; without a rest the next
 * contestant would share the cores with them.
 */
export const restMs = 80;

/** Rounds that an interrupted row needs to be kept. */
export const leastRounds = 3;

/**
 * `async` must be said: tinybench finds out whether a plain function returns a promise by calling it, and that call would run beside
 * the ones being timed, since nothing waits for it.
 */
const task = { async: true, beforeEach: () => sleep(restMs) };

/**
 * Each round begins with another contestant, so that none always follows the same one.
 *
 * @param {Readonly<Record<string, () => Promise<unknown>>>} contestants
 * @param {number} rounds
 * @param {object} [options]
 * @param {AbortSignal} [options.signal] ends the measurement: with the rounds so far where they are enough, else with its reason
 * @param {(name: string, problem: Error) => boolean} [options.mayFail] asked when a contestant failed: true goes on without it
 * @returns {Promise<Record<string, number[]>>} name -> seconds of each round; the first, untimed round warms up
 */
export async function alternate(contestants, rounds, { signal, mayFail = () => false } = {}) {
  const seconds = Object.fromEntries(Object.keys(contestants).map((name) => [name, []]));
  const running = new Set(Object.keys(contestants));
  /** The contestant's call, whose failure ends its part alone where that is allowed. */
  const guarded = (name) => async () => {
    if (!running.has(name)) return;
    try {
      await orAborted(contestants[name](), signal);
    } catch (problem) {
      if (signal?.aborted || !mayFail(name, problem)) throw problem;
      running.delete(name);
      delete seconds[name];
    }
  };
  try {
    for (const name of Object.keys(contestants)) await guarded(name)();
    for (let round = 0; round < rounds; round++) {
      signal?.throwIfAborted();
      const names = [...running];
      const first = round % names.length;
      const bench = new Bench({ iterations: 1, time: 0, warmup: false, retainSamples: true, throws: true });
      for (const name of [...names.slice(first), ...names.slice(0, first)]) bench.add(name, guarded(name), task);
      await bench.run();
      for (const { name, result } of bench.tasks) seconds[name]?.push(result.latency.samples[0] / 1000);
    }
  } catch (problem) {
    const done = Math.min(...Object.values(seconds).map(({ length }) => length));
    if (!signal?.aborted || done < leastRounds) throw signal?.aborted ? signal.reason : problem;
  }
  return seconds;
}

/** The promise's result, or a rejection as soon as the signal fires: nobody waits for the call then. */
async function orAborted(call, signal) {
  if (signal === undefined) return call;
  let abort;
  const aborted = new Promise((_, reject) => {
    abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort);
  });
  try {
    return await Promise.race([call, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
