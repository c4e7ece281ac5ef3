/** How much a queue takes in: items, and time. */
import { expect, it } from 'vitest';
import { BatchQueue, type Priority } from '../../src/inference/batch-queue.ts';
import { Room } from '../../src/inference/batch-room.ts';
import { OverloadedError } from '../../src/runtime/errors.ts';

const refused = (action: () => void): OverloadedError => {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(OverloadedError);
    return error as OverloadedError;
  }
  throw new Error('expected a refusal');
};

it('refuses at once what would wait beyond its time, by the rate of runs that were full', () => {
  const room = new Room(100);
  room.requireTime('a', 1e9, 1); // nothing is known yet
  room.measure(1, 10, 1000, 1000); // a small run says nothing of how fast full ones are
  room.requireTime('a', 1e9, 1);
  room.measure(50, 1000, 1000, 100); // 10 rows a millisecond
  room.requireTime('a', 7400, 1000);
  const { message, retryAfterMs } = refused(() => room.requireTime('a', 9500, 1000));
  expect(message).toBe('a: expected to be done within 1000 ms, the queue needs about 950 ms; try again in 200 ms');
  expect(retryAfterMs).toBe(200);
  // Slower runs of late: what had time has none.
  for (let i = 0; i < 50; i++) room.measure(50, 1000, 1000, 200);
  refused(() => room.requireTime('a', 7400, 1000));
});

it('keeps its rate when a run seems to have taken no time', () => {
  const room = new Room(100);
  for (let i = 0; i < 20; i++) room.measure(50, 1000, 1000, 100);
  room.measure(50, 1000, 1000, 0);
  refused(() => room.requireTime('a', 9500, 1000));
  room.measure(50, 1000, 1000, 100);
  room.requireTime('a', 7400, 1000);
});

it('counts rows before a call as clients take turns and bulk goes behind', () => {
  const queue = new BatchQueue<{ priority: Priority; client: string; rows: number }>();
  const add = (priority: Priority, client: string, rows: number, count: number) => {
    const items = Array.from({ length: count }, () => ({ priority, client, rows }));
    for (const item of items) queue.add(item);
    return items;
  };
  const heavy = add('interactive', 'heavy', 10, 100);
  add('interactive', 'own', 10, 2);
  add('bulk', 'heavy', 10, 50);
  // A client with little waits for its own and as much of each other one, not for all that a heavy client has.
  expect(queue.rowsBefore('interactive', 'own', 30)).toBe(20 + 50);
  expect(queue.rowsBefore('interactive', 'new', 30)).toBe(30 + 20);
  expect(queue.rowsBefore('interactive', 'heavy', 30)).toBe(1000 + 20);
  expect(queue.rowsBefore('bulk', 'new', 30)).toBe(30 + 1020);
  // Bulk items fill no run ahead of its time.
  expect([queue.isFull(1020), queue.isFull(1021)]).toEqual([true, false]);
  for (const item of heavy) queue.delete(item);
  expect(queue.isFull(21)).toBe(false);
  expect(queue.rowsBefore('interactive', 'heavy', 30)).toBe(20);
});
