/** Single kernels, by `mome_bench`, with OpenBLAS and oneDNN beside bare products where they are installed. */
import { execFileSync } from 'node:child_process';
import { benchProgram } from '../machine.mjs';
import { fasterPeer, rowOf } from './row.mjs';

/** @returns rows of the table and what was absent */
export async function kernelsTable({ rounds, log }) {
  log('kernels');
  const output = execFileSync(benchProgram, ['kernels', '--rounds', String(rounds)], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = output
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  const versions = Object.fromEntries(
    Object.entries(lines.find(({ kind }) => kind === 'versions') ?? {}).filter(
      ([key, value]) => key !== 'kind' && typeof value === 'string',
    ),
  );
  const rows = lines
    .filter(({ kind }) => kind === 'kernel')
    .map((line) => {
      const { op, direction, shape, dtype, threads, flops, bytes, ours } = line;
      const peers = {};
      const onOne = lines.find((other) => other.threads === 1 && sameProduct(other, line));
      for (const peer of ['openblas', 'onednn'])
        if (line[peer]) peers[peer] = fasterPeer(line[peer], onOne?.[peer], ours);
      const name = `${op}.${direction} ${shape} ${dtype} ${threads} thread${threads === 1 ? '' : 's'}`;
      return rowOf({ name, dtype, threads, items: 1, unit: 'calls', flops, bytes }, ours, peers);
    });
  const absent = ['openblas', 'onednn']
    .filter((peer) => !rows.some(({ peers }) => peer in peers))
    .map((peer) => `${peer}: its shared library was not found`);
  return { rows, absent, versions };
}

function sameProduct(a, b) {
  return a.op === b.op && a.direction === b.direction && a.shape === b.shape && a.dtype === b.dtype;
}
