/** Single kernels, by `mome_bench`, with OpenBLAS and oneDNN beside bare products where they are installed. */
import { benchLines } from '../program.mjs';
import { fasterPeer, rowOf } from './row.mjs';

const peerNames = ['openblas', 'onednn'];

const nameOf = ({ op, direction, shape, dtype, threads }) =>
  `${op}.${direction} ${shape} ${dtype} ${threads} thread${threads === 1 ? '' : 's'}`;
/** A case by the name that `mome_bench` knows it by: the same call with one thread and with all. */
const caseOf = ({ op, direction, shape, dtype }) => `${op}.${direction}/${shape}/${dtype}`;

export const kernelsTable = {
  names: async () => (await benchLines(['cases'])).map(nameOf),
  measure: async (run) => {
    const cases = await benchLines(['cases']);
    const wanted = cases.filter((each) => run.wants(nameOf(each)));
    const parts = wanted.length === cases.length ? [''] : new Set(wanted.map(caseOf));
    for (const part of parts) {
      run.log(part || 'kernels');
      await measureCases(part, run);
    }
    for (const peer of peerNames)
      if (!(peer in run.versions)) run.absent.push(`${peer}: its shared library was not found`);
  },
};

/** Measures the cases whose names hold `part`, with one thread and with all. */
async function measureCases(part, run) {
  const onOne = new Map();
  const onLine = (line) => {
    if (line.kind === 'versions') {
      for (const peer of peerNames) if (line[peer] !== undefined) run.versions[peer] = line[peer];
    }
    if (line.kind !== 'kernel') return;
    const { dtype, threads, flops, bytes, ours } = line;
    if (threads === 1) onOne.set(caseOf(line), line);
    const peers = {};
    for (const peer of peerNames)
      if (line[peer]) peers[peer] = fasterPeer(line[peer], onOne.get(caseOf(line))?.[peer], ours);
    run.add(rowOf({ name: nameOf(line), dtype, threads, items: 1, unit: 'calls', flops, bytes }, ours, peers));
  };
  const args = ['kernels', '--rounds', String(run.rounds), '--target', run.target];
  await benchLines([...args, ...(part ? ['--only', part] : [])], { signal: run.signal, onLine });
}
