/** PyTorch in a process of its own that answers one line of JSON with another. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { root } from '../machine.mjs';

const interpreters = ['/usr/bin/python3', 'python3'];

/** @returns the peer, or undefined where no Python with torch is found */
export function torchPeer(threads) {
  const python = interpreters.find(
    (each) => (existsSync(each) || !each.startsWith('/')) && spawnSync(each, ['-c', 'import torch']).status === 0,
  );
  if (!python) return undefined;
  const child = spawn(python, [join(root, 'bench', 'peers', 'torch_peer.py'), String(threads)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (request) => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await lines.next();
    if (done) throw new Error('torch: the process ended');
    return JSON.parse(value);
  };
  return {
    version: async () => (await ask({ what: 'version' })).version,
    /** Runs `what` once; time is taken here, the transfer of a line included. */
    call: (what, sizes) => () => ask({ what, ...sizes }),
    close: () => child.stdin.end(),
  };
}
