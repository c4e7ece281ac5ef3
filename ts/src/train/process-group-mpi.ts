/**
 * Processes that `mpirun` launched. Collective operations run on a native thread, in the order of their calls.
 */
import { addon, fromNative, type NativeProcessGroup, native } from '../runtime/addon.ts';
import type { Program } from '../runtime/engine.ts';
import { check } from '../runtime/errors.ts';
import { type ProcessGroup, singleProcess } from './process-group.ts';

/** Seconds without an answer after which the others count as lost: process 0 may be evaluating for a while. */
const defaultTimeout = 1800;

/** Whether `mpirun` of Open MPI started this process beside others. */
export function launchedByMpi(environment: NodeJS.ProcessEnv = process.env): boolean {
  return Number(environment.OMPI_COMM_WORLD_SIZE ?? 1) > 1;
}

/** The library that is loaded for MPI, or why there is none. */
export function mpiInfo(): { readonly library: string | null; readonly reason: string } {
  return addon().communicatorInfo();
}

/**
 * The processes that were launched together with this one by `mpirun`; a group of one where it was not used. A process can join once.
 *
 * @throws MomeError `MOME_DEVICE_UNAVAILABLE` where the addon was built without MPI or cannot load it
 */
export async function openProcessGroup(): Promise<ProcessGroup> {
  if (!launchedByMpi()) return singleProcess;
  const given = process.env.MOME_MPI_TIMEOUT;
  const timeout = given === undefined ? defaultTimeout : Number(given);
  check(timeout > 0, 'MOME_INVALID_ARGUMENT', `process group: expected MOME_MPI_TIMEOUT in seconds, got ${given}`);
  const group = native((a) => new a.NativeProcessGroup(timeout));
  try {
    const { rank, size } = await group.opened();
    return new MpiGroup(group, rank, size);
  } catch (error) {
    throw fromNative(error);
  }
}

class MpiGroup implements ProcessGroup {
  readonly rank: number;
  readonly size: number;
  readonly #native: NativeProcessGroup;
  /** Operations of more than one message must not be mixed with others. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(group: NativeProcessGroup, rank: number, size: number) {
    this.#native = group;
    this.rank = rank;
    this.size = size;
  }

  allReduce(values: Float32Array): Promise<void> {
    return this.#inOrder(async () => values.set(await this.#native.allReduce(values)));
  }

  allGather(bytes: Uint8Array): Promise<Uint8Array[]> {
    return this.#inOrder(async () => {
      const lengths = await this.#gatherNumbers(Int32Array.of(bytes.length));
      const longest = Math.max(...lengths);
      const padded = new Uint8Array(longest);
      padded.set(bytes);
      const all = await this.#native.allGather(padded, this.size);
      return Array.from(lengths, (length, rank) => all.subarray(rank * longest, rank * longest + length));
    });
  }

  broadcast(bytes: Uint8Array, root: number): Promise<Uint8Array> {
    return this.#inOrder(async () => {
      const lengths = await this.#gatherNumbers(Int32Array.of(bytes.length));
      return this.#native.broadcast(this.rank === root ? bytes : new Uint8Array(lengths[root]!), root);
    });
  }

  exchange(parcels: readonly Uint8Array[]): Promise<Uint8Array[]> {
    return this.#inOrder(async () => {
      const sent = Int32Array.from(parcels, ({ length }) => length);
      const counts = await this.#gatherNumbers(sent);
      const received = Int32Array.from(parcels, (_, rank) => counts[rank * this.size + this.rank]!);
      const bytes = await this.#native.exchange(Buffer.concat(parcels), sent, received);
      let at = 0;
      return Array.from(received, (count) => {
        at += count;
        return bytes.subarray(at - count, at);
      });
    });
  }

  async barrier(): Promise<void> {
    await this.allReduce(new Float32Array(1));
  }

  reduceGradients(parameters: readonly string[], program: Program, overlapped: boolean): Promise<void> {
    return this.#inOrder(async () => {
      if (!overlapped) program.reduceGradients(this.#native, parameters);
      await this.#native.settled();
    });
  }

  overlap(parameters: readonly string[]): {
    readonly group: NativeProcessGroup;
    readonly gradients: readonly string[];
  } {
    return { group: this.#native, gradients: parameters };
  }

  async dispose(): Promise<void> {
    await this.#inOrder(() => this.#native.close());
  }

  async #gatherNumbers(numbers: Int32Array): Promise<Int32Array> {
    const bytes = await this.#native.allGather(new Uint8Array(numbers.buffer), this.size);
    return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  }

  #inOrder<T>(operation: () => Promise<T>): Promise<T> {
    const next = this.#last.then(operation).catch((error) => {
      throw fromNative(error);
    });
    this.#last = next.catch(() => {});
    return next;
  }
}
