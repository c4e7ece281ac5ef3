/** Alternating measurement: one call of each contestant per round, with a rest between, timed by tinybench. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Bench } from 'tinybench';

/**
 * Milliseconds of rest before each call. Runtimes keep their threads spinning for a while after a call; without a rest the next
 * contestant would share the cores with them.
 */
const restMs = 80;

/**
 * @param contestants name -> async call
 * @returns name -> seconds of each round; the first, untimed round warms up
 */
export async function alternate(contestants, rounds) {
  const names = Object.keys(contestants);
  const seconds = Object.fromEntries(names.map((name) => [name, []]));
  for (const name of names) await contestants[name]();
  for (let round = 0; round < rounds; round++) {
    const bench = new Bench({ iterations: 1, time: 0, warmup: false, retainSamples: true, throws: true });
    for (const name of names) bench.add(name, contestants[name], { beforeEach: () => sleep(restMs) });
    await bench.run();
    for (const task of bench.tasks) seconds[task.name].push(task.result.latency.samples[0] / 1000);
  }
  return seconds;
}
