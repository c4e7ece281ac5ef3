/**
 * Processes that train one model together. The trainer knows this interface alone: MPI is one way to implement it
 * (`process-group-mpi.ts`), NCCL would be another.
 */
import type { Program, Weights } from '../runtime/engine.ts';

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
   * Sums gradients of all processes, in place. A run of the program that is under way or comes next may already do it, bucket by bucket,
   * as soon as its last instruction that adds to a bucket has run (`overlapped`); this then returns when all buckets are through.
   */
  reduceGradients(
    weights: Weights,
    parameters: readonly string[],
    program: Program,
    overlapped: boolean,
  ): Promise<void>;
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
  dispose: async () => {},
};
