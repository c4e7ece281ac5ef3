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

/**
 * Environments that are tried for every workload; the fastest is the peer. Free threads may both wake up on one core. None lets threads
 * spin without end (OMP_WAIT_POLICY=active): they would take the cores from everybody else.
 */
const candidates = {
  'threads free': {},
  'threads bound': { OMP_PROC_BIND: 'close', OMP_PLACES: 'cores' },
};
const tries = 3;

/**
 * @param {string} folder the model, where the inputs are written too
 * @param {readonly { data: Uint8Array }[]} images the pictures of all workloads
 * @param {AbortSignal} [signal] ends its processes at once
 * @returns the peer, or undefined where no Python with torch is found
 */
export function torchPeer(folder, images, threads, signal) {
  const python = interpreters.find(
    (each) => (existsSync(each) || !each.startsWith('/')) && spawnSync(each, ['-c', 'import torch']).status === 0,
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
  const close = async (settings) => {
    await programs.get(settings)?.close();
    programs.delete(settings);
  };
  /**
   * A call with the settings that suit this request best; `settings` of the call names them. Calls of this function must not overlap.
   *
   * @param {{ together: boolean, attempts: number }} options `together`: processes of all settings may live at a time
   */
  const fastest = async (request, { together, attempts }) => {
    let best;
    for (const settings of Object.keys(candidates)) {
      await program(settings).ask(request);
      let milliseconds = Number.POSITIVE_INFINITY;
      for (let i = 0; i < attempts; i++) {
        await sleep(restMs);
        const started = performance.now();
        await program(settings).ask(request);
        milliseconds = Math.min(milliseconds, performance.now() - started);
      }
      if (!best || milliseconds < best.milliseconds) best = { settings, milliseconds };
      if (!together) await close(settings);
    }
    const { settings } = best;
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
  });
}
