/** What requests of the Open Inference Protocol say, whatever carries them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { withParameters } from '../../src/serve/oip.ts';
import { tensorsOf } from '../../src/serve/tensors.ts';

it('a time that a request asks for counts from its beginning, and ends no later than that of the server', async () => {
  const asked = withParameters({ timeout: 10_000 }, { timeout: 5_000_000 });
  const server = withParameters({ timeout: 100 }, { timeout: 5_000_000 });
  expect([asked.timeout! > 4000, server.timeout]).toEqual([true, 100]);
  await sleep(50);
  expect(asked.timeout!).toBeLessThanOrEqual(4960);
  const short = withParameters({ timeout: 100 }, { timeout: 1 });
  await sleep(5);
  expect(short.timeout).toBe(1);
});

it('a wrong size of a tensor is not repeated at any length', () => {
  const parameters = { binary_data_size: 'x'.repeat(1_000_000) };
  const heads = [{ name: 'text', shape: [1], datatype: 'BYTES', parameters }];
  expect(() => tensorsOf(heads, Buffer.alloc(0), 10)).toThrow(/^text: expected binary_data_size .{1,100}$/);
});
