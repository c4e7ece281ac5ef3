/** Numbers of embeddings as JSON. */
import { expect, it } from 'vitest';
import { numbersAsJson } from '../../src/serve/rows.ts';
import { expectShortTurns } from '../loop-gap.ts';

it('are what JSON.stringify writes, in turns of their own', async () => {
  const values = Float32Array.from({ length: 2 ** 20 }, (_, i) => Math.sin(i));
  expect(await numbersAsJson(new Float32Array(0))).toBe('');
  const some = values.subarray(0, 5000);
  expect(`[${await numbersAsJson(some)}]`).toBe(JSON.stringify([...some]));
  await expectShortTurns(() => numbersAsJson(values));
});
