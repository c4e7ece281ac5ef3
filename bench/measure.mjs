/** Alternating measurement: one call of each contestant per round, with a rest between, timed by tinybench. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Bench } from 'tinybench';

/**
 * Milliseconds of rest before each call. Runtimes keep their threads spinning for a while after a call; without a rest the next
 * contestant would share the cores with them.
 */
export const restMs = 80;

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
 * @returns {Promise<Record<string, number[]>>} name -> seconds of each round; the first, untimed round warms up
 */
export async function alternate(contestants, rounds) {
  const names = Object.keys(contestants);
  const seconds = Object.fromEntries(names.map((name) => [name, []]));
  for (const name of names) await contestants[name]();
  for (let round = 0; round < rounds; round++) {
    const first = round % names.length;
    const bench = new Bench({ iterations: 1, time: 0, warmup: false, retainSamples: true, throws: true });
    for (const name of [...names.slice(first), ...names.slice(0, first)]) bench.add(name, contestants[name], task);
    await bench.run();
    for (const { name, result } of bench.tasks) seconds[name].push(result.latency.samples[0] / 1000);
  }
  return seconds;
}
