import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { ChildProcess } from '../../src/runtime/child-process.ts';
import { expectCode } from '../helpers.ts';
import { expectShortTurns } from '../loop-gap.ts';

interface Run {
  readonly child: ChildProcess;
  readonly end: Promise<readonly [code: number | null, signal: string | null]>;
  readonly said: () => string;
}

function run(script: string, environment: NodeJS.ProcessEnv = {}): Run {
  let told: (end: readonly [number | null, string | null]) => void = () => {};
  const end = new Promise<readonly [number | null, string | null]>((resolve) => {
    told = resolve;
  });
  const child = new ChildProcess('/bin/sh', ['-c', script], environment, (...how) => told(how));
  let text = '';
  child.stdout.on('data', (piece) => {
    text += piece;
  });
  return { child, end, said: () => text };
}

describe('a child process', () => {
  it('reads and writes, and says how it ended', async () => {
    const { child, end, said } = run('read line; echo "$line $WORD"; exit 3', { WORD: 'é' });
    child.stdin.write('hello\n');
    expect(await end).toEqual([3, null]);
    expect(said()).toBe('hello é\n');
  });

  it('is ended whatever it does, and leaves nothing behind', async () => {
    const { child, end } = run('trap "" TERM; while :; do sleep 0.1; done');
    await sleep(50);
    child.kill();
    expect(await end).toEqual([null, 'SIGKILL']);
    child.kill(); // its number may be that of another process by now
    expect(() => process.kill(child.pid, 0)).toThrow('ESRCH');
  });

  it('ends when its input does, also while later ones live on: they have no end of its pipe', async () => {
    const first = run('cat');
    const second = run('cat');
    first.child.stdin.end('done');
    expect(await first.end).toEqual([0, null]);
    expect(first.said()).toBe('done');
    second.child.kill();
    expect(await second.end).toEqual([null, 'SIGKILL']);
  });

  it('ends with the worker thread that started it, and is collected', async () => {
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const { pid } = require('node-gyp-build')(workerData).startProcess('/bin/sleep', ['sleep', '60'], []);
       parentPort.postMessage(pid);
       setInterval(() => {}, 1000);`,
      { eval: true, workerData: process.cwd() },
    );
    const pid = await new Promise<number>((resolve) => worker.once('message', resolve));
    process.kill(pid, 0);
    await worker.terminate();
    await expect.poll(() => existsSync(`/proc/${pid}`)).toBe(false);
  });

  it('that cannot be started is an error with the reason', async () => {
    const { message } = await expectCode(() => new ChildProcess('/nowhere/at/all', [], {}, () => {}), 'MOME_IO');
    expect(message).toContain('No such file');
  });

  it('starts without holding the event loop, however large this process is', async () => {
    const large = Buffer.alloc(2 ** 30, 1);
    await expectShortTurns(async () => expect(await run('exit 0').end).toEqual([0, null]), 25);
    expect(large[large.length - 1]).toBe(1);
  });
});
