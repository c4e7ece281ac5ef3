/** PyTorch in a process of its own that answers one line of JSON with another, on the model's own weights and inputs. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { paddedTokens } from '../base-model.mjs';
import { root } from '../machine.mjs';
import { restMs } from '../measure.mjs';

const interpreters = ['/usr/bin/python3', 'python3'];
/** Fails without torch, and where its matrix products are those of the reference BLAS, which nobody who cares for speed would use. */
const probe = `
import torch
torch.ones(64, 64) @ torch.ones(64, 64)
raise SystemExit('/blas/libblas.so' in open('/proc/self/maps').read())
`;
/** Why there is no peer. */
export const torchAbsent =
  'torch: no Python was found that has torch with an optimised BLAS (on Debian: python3-torch and libopenblas0)';

/**
 * Environments that are tried for every workload; the fastest is the peer. Free threads may both wake up on one core. None lets threads
 * spin without end (OMP_WAIT_POLICY=active): they would take the cores from everybody else.
 */
const candidates = {
  'threads free': {},
  'threads bound': { OMP_PROC_BIND: 'close', OMP_PLACES: 'cores' },
};
const tries = 3;
/** Settings whose first call takes so many times as long as that of the others are given up: bound threads may share one core. */
const hopeless = 2;

/**
 * @param {string} folder the model, where the inputs are written too
 * @param {readonly { data: Uint8Array }[]} images the pictures of all workloads
 * @param {AbortSignal} [signal] ends its processes at once
 * @returns the peer, or undefined (torchAbsent)
 */
export function torchPeer(folder, images, threads, signal) {
  const python = interpreters.find(
    (each) => (existsSync(each) || !each.startsWith('/')) && spawnSync(each, ['-c', probe]).status === 0,
  );
  if (!python) return undefined;
  const picturesFile = join(folder, 'pictures.bin');
  writeFileSync(picturesFile, Buffer.concat(images.map(({ data }) => data)));
  const programs = new Map();
  const program = (settings) => {
    if (!programs.get(settings)?.alive)
      programs.set(settings, start(python, folder, threads, candidates[settings], signal));
    return programs.get(settings);
  };
  /** The milliseconds of a call; infinite, and the program ended, where it takes longer than `most`. */
  const timed = async (settings, request, most = Number.POSITIVE_INFINITY) => {
    const started = performance.now();
    const late = new AbortController();
    const answered = program(settings).ask(request);
    const done = Number.isFinite(most)
      ? await Promise.race([answered.then(() => true), sleep(most, false, { signal: late.signal }).catch(() => true)])
      : await answered.then(() => true);
    late.abort();
    if (done) return performance.now() - started;
    answered.catch(() => {});
    await programs.get(settings)?.kill();
    programs.delete(settings);
    return Number.POSITIVE_INFINITY;
  };
  const close = async (settings) => {
    await programs.get(settings)?.close();
    programs.delete(settings);
  };
  let settled;
  /**
   * A call with the settings that suit this request best; `settings` of the call names them. Calls of this function must not overlap.
   *
   * @param {{ together: boolean, attempts: number }} options `together`: processes of all settings may live at a time. Otherwise what
   *   suits the first request is taken for all: each takes minutes.
   */
  const fastest = async (request, { together, attempts }) => {
    let best;
    let quickest = Number.POSITIVE_INFINITY;
    if (!together && settled) best = { settings: settled };
    for (const settings of best ? [] : Object.keys(candidates)) {
      const first = await timed(settings, request, hopeless * quickest);
      if (first === Number.POSITIVE_INFINITY) continue;
      quickest = Math.min(quickest, first);
      let milliseconds = Number.POSITIVE_INFINITY;
      for (let i = 0; i < attempts; i++) {
        await sleep(restMs);
        milliseconds = Math.min(milliseconds, await timed(settings, request));
      }
      if (!best || milliseconds < best.milliseconds) best = { settings, milliseconds };
      if (!together) await close(settings);
    }
    const { settings } = best;
    if (!together) settled = settings;
    return Object.assign(async () => (await program(settings).ask(request)).answer, { settings });
  };
  const pictures = (count) => ({ pictures: picturesFile, images: count });
  const texts = (ids, length) => ({ texts: ids.map((one) => [...one]), length });
  const inference = { together: true, attempts: tries };
  return {
    version: async () => (await program('threads free').ask({ what: 'version' })).version,
    image: (count) => fastest({ what: 'image', ...pictures(count) }, inference),
    /** Texts padded to `length` tokens. */
    text: (ids, length = paddedTokens) => fastest({ what: 'text', ...texts(ids, length) }, inference),
    fusion: (ids, length = paddedTokens) =>
      fastest({ what: 'fusion', ...pictures(ids.length), ...texts(ids, length) }, inference),
    /**
     * One optimiser step of a stage (torch_stages.py) on these texts and the first `images` pictures; it answers with the loss. A process
     * that trained holds up to ten gigabytes and the state of its stage, so there is one at a time, and it must be closed before another
     * stage.
     *
     * @param {string} stage
     * @param {readonly Int32Array[]} ids
     * @param {number} images
     * @param {Record<string, unknown>} [own] what else the stage is told
     */
    train: (stage, ids, images, own = {}) =>
      fastest(
        {
          what: 'train',
          stage,
          ...own,
          ...(images > 0 && pictures(images)),
          ...(ids.length > 0 && texts(ids, ids[0].length)),
        },
        { together: false, attempts: 1 },
      ),
    close: () => Promise.all([...programs.keys()].map(close)),
  };
}

/** The program under these settings. In a process group of its own: an interruption in a terminal is the bench's affair. */
function start(python, folder, threads, environment, signal) {
  const child = spawn(python, [join(root, 'bench', 'peers', 'torch_peer.py'), String(threads), folder], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
    detached: true,
  });
  const program = { alive: true };
  const ended = once(child, 'exit').finally(() => {
    program.alive = false;
    signal?.removeEventListener('abort', stop);
  });
  ended.catch(() => {});
  child.stdin.on('error', () => {}); // it ended: `ask` finds no answer
  const stop = () => child.kill('SIGKILL');
  signal?.addEventListener('abort', stop);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return Object.assign(program, {
    ask: async (request) => {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error('torch: the process ended');
      return JSON.parse(value);
    },
    close: () => {
      child.stdin.end();
      return ended;
    },
    kill: () => {
      stop();
      return ended;
    },
  });
}
