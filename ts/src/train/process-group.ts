/**
 * Processes that train one model together. The trainer knows this interface alone: MPI is one way to implement it
 * (`process-group-mpi.ts`), NCCL would be another.
 */
import type { RunPart } from '../runtime/addon.ts';
import type { Program } from '../runtime/engine.ts';

export interface ProcessGroup {
  /** This process's number, from 0. Process 0 alone writes files. */
  readonly rank: number;
  /** How many processes there are. */
  readonly size: number;
  /** Sums the numbers of all processes, in place; all get the same bits. */
  allReduce(values: Float32Array): Promise<void>;
  /** The bytes of each process, which may differ in length, in the order of their ranks. */
  allGather(bytes: Uint8Array): Promise<Uint8Array[]>;
  /** The bytes of process `root`; what the others give is not read. */
  broadcast(bytes: Uint8Array, root: number): Promise<Uint8Array>;
  /** Sends `parcels[rank]` to each process; what each sent to this one. */
  exchange(parcels: readonly Uint8Array[]): Promise<Uint8Array[]>;
  /** Returns once all processes have called it. */
  barrier(): Promise<void>;
  /**
   * Sums the gradients of parameters over all processes, in place, in pieces whose order `program` gives.
   *
   * @param overlapped a run with what `overlap` gave has begun it: only the end is waited for
   */
  reduceGradients(parameters: readonly string[], program: Program, overlapped: boolean): Promise<void>;
  /** What a run of the program is given to begin that as soon as nothing is added to a piece any more. */
  overlap(parameters: readonly string[]): Pick<RunPart, 'group' | 'gradients'>;
  /** Leaves the group. The other processes go on only if they leave it too. */
  dispose(): Promise<void>;
}

/** A group of one process. */
export const singleProcess: ProcessGroup = {
  rank: 0,
  size: 1,
  allReduce: async () => {},
  allGather: async (bytes) => [bytes],
  broadcast: async (bytes) => bytes,
  exchange: async (parcels) => [...parcels],
  barrier: async () => {},
  reduceGradients: async () => {},
  overlap: () => ({}),
  dispose: async () => {},
};
