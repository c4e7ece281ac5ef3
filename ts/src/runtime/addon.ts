/**
 * The one typed binding to the native addon.
 */
import { type ErrorCode, errorCodes, MomeError } from './errors.ts';
import { loadAddon } from './load-addon.ts';

export { packageRoot } from './package-files.ts';

/** Sizes, tensors and scalars of one run of a program, by the program's names. */
export interface RunArguments {
  readonly dims: Readonly<Record<string, number>>;
  readonly inputs: Readonly<Record<string, Float32Array | Int32Array | Uint8Array>>;
  readonly scalars?: Readonly<Record<string, number>>;
  /** Measure each instruction. */
  readonly profile?: boolean;
}

/**
 * Part of a run: instructions [first, end). A run from the first instruction may end early and keep its memory; the next run of the
 * program, with the same sizes, goes on from there.
 */
export interface RunPart {
  readonly first?: number;
  readonly end?: number;
  readonly keep?: boolean;
  /** Processes that sum these gradients while the run goes on, as soon as nothing is added to them any more. */
  readonly group?: NativeProcessGroup;
  readonly gradients?: readonly string[];
}

/** Processes that were launched together. All start the same operations in the same order. */
export interface NativeProcessGroup {
  /** Once all have joined. */
  opened(): Promise<{ readonly rank: number; readonly size: number; readonly library: string }>;
  /** The sums of the numbers of all processes. */
  allReduce(values: Float32Array): Promise<Float32Array>;
  /** The bytes of all `size` processes, which give as many each. */
  allGather(bytes: Uint8Array, size: number): Promise<Uint8Array>;
  /** The bytes of process `root`; all give as many. */
  broadcast(bytes: Uint8Array, root: number): Promise<Uint8Array>;
  /** Bytes for each process, one after the other, and so many of each; what the others sent. */
  exchange(bytes: Uint8Array, sendCounts: Int32Array, receiveCounts: Int32Array): Promise<Uint8Array>;
  /** Once all that was posted so far is done, sums of gradients included. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

export interface RunOutputs {
  readonly outputs: Readonly<Record<string, Float32Array>>;
  /** Time of each instruction, when asked for. */
  readonly nanoseconds?: Float64Array;
  /** From the call into native code to the first instruction, when asked for. */
  readonly startNanoseconds?: number;
}

/** Which array of a parameter is meant. */
export type ParameterKind = 'value' | 'gradient' | 'm' | 'v';

/**
 * The type in which weight matrices are kept. Arithmetic is in float32 with `bfloat16` weights; with `int8` the products of the blocks are
 * of 8-bit numbers, summed exactly, and everything else is in float32.
 */
export const dtypes = ['float32', 'bfloat16', 'int8'] as const;
export type DType = (typeof dtypes)[number];

/** A tensor inside a file. */
export interface FileRegion {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: 'F32' | 'F16' | 'BF16' | 'I8';
  /** Bytes from the start of the file. */
  readonly offset: number;
  /** Where the float32 row scales of an `I8` matrix lie. */
  readonly scaleOffset?: number;
}

/** Settings of one AdamW step. */
export interface AdamwOptions {
  /** Counted from 1. */
  readonly step: number;
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** Multiplies every gradient: clipping and accumulation. */
  readonly gradientScale: number;
  readonly groups: readonly {
    readonly names: readonly string[];
    readonly weightDecay: number;
    readonly learningRateScale: number;
  }[];
  /** Parameters whose values are cut to a highest one after the step. */
  readonly limits?: Readonly<Record<string, number>>;
}

export interface CancelToken {
  cancel(): void;
}

export interface NativeEngine {
  readonly threads: number;
  readonly target: string;
  readonly arenaBytes: number;
  /** Tells V8 how many bytes the engine holds outside its heap, weights included. @returns the total that V8 was told of */
  holds(bytes: number): number;
  dispose(): void;
}

export interface NativeWeights {
  readonly bytes: number;
  /** Adds a parameter; its values are written afterwards. */
  add(name: string, shape: readonly number[]): void;
  /** The descriptor is duplicated before the call returns; `path` names the file in messages. */
  map(fd: number, path: string, regions: readonly FileRegion[]): Promise<void>;
  names(): string[];
  /** How many values a parameter has; undefined for one that is not there. */
  count(name: string): number | undefined;
  /** Values [first, first + count). */
  read(name: string, kind: ParameterKind, first: number, count: number): Promise<Float32Array>;
  /** Values from `first` on, copied before the call returns. */
  write(name: string, values: Float32Array, kind: ParameterKind, first: number): Promise<void>;
  enableTraining(): Promise<void>;
  zeroGradients(): Promise<void>;
  gradientNorm(): Promise<number>;
  adamw(options: AdamwOptions): Promise<void>;
  dispose(): void;
}

export interface NativeProgram {
  /** Inputs of a run, in order. */
  readonly names: Readonly<Record<'dims' | 'scalars' | 'inputs', readonly string[]>>;
  run(
    dims: Float64Array,
    scalars: Float64Array,
    inputs: readonly (RunArguments['inputs'][string] | undefined)[],
    profile: boolean,
    cancel?: CancelToken,
    part?: RunPart,
  ): Promise<RunOutputs>;
  /** Posts the sums of gradients over all processes, as a run with `group` does. */
  reduceGradients(group: NativeProcessGroup, parameters: readonly string[]): void;
  releasePlain(): Promise<void>;
  dispose(): void;
}

export interface CpuInfo {
  readonly model: string;
  readonly availableCores: number;
  /** Kernel sets this processor can run. */
  readonly targets: readonly string[];
  /** The fastest of them whose self-check passes. */
  readonly best: string;
  /** Faster ones whose self-check failed, fastest first, and what was computed wrongly. */
  readonly rejected: readonly { readonly target: string; readonly reason: string }[];
}

/** How products and runs are cut (`native/core/blocking.h`). */
export interface Blocking {
  /** Its numbers by name, such as `depth_steps`. */
  readonly fields: Readonly<Record<string, number>>;
  /** Where they are from: the machine they were measured on, `MOME_BLOCKING`, `setBlocking`, or the defaults. */
  readonly source: string;
  /** This processor as cpuid names it. */
  readonly vendor: string;
  readonly family: number;
  readonly model: number;
}

/** The self-check of a kernel set: small products, an attention and an expert against the plain kernels. */
export interface TargetCheck {
  readonly passed: boolean;
  /** What was computed wrongly, empty where nothing was. */
  readonly wrong: string;
  /** Time of the check, which is done once per process. */
  readonly milliseconds: number;
}

/** A CUDA device. */
export interface CudaDevice {
  readonly name: string;
  /** Versions of CUDA's runtime and of the driver. */
  readonly runtime: string;
  /** Compute capability, such as 9.0; 0 where the device could not be read. */
  readonly capability: number;
  readonly multiprocessors: number;
  readonly memoryBytes: number;
  /** Why models do not run on it, empty where they do. */
  readonly unfit: string;
}

export interface CudaInfo {
  /** The library with the CUDA kernels, `null` when it is not there or cannot be loaded. */
  readonly library: string | null;
  /** Why there is no device. */
  readonly reason: string;
  readonly devices: readonly CudaDevice[];
}

export interface KernelEntry {
  readonly op: string;
  readonly direction: 'forward' | 'backward';
  readonly target: string;
}

/**
 * The native description of an op (`native/core/ops/spec.h`). Keys of operands are the field names of the native argument
 * structs; a `#` in a key stands for one decimal digit.
 */
export interface OpEntry {
  readonly name: string;
  /** Directions that a program can call; none for the kernels of the optimiser. */
  readonly directions: readonly ('forward' | 'backward')[];
  /** Weight matrices, which are packed for the target's kernels. */
  readonly matrices: readonly string[];
  /** Activations that the forward kernel reads. */
  readonly rows: readonly string[];
  /** Activations that the forward kernel writes. */
  readonly results: readonly string[];
  /** Activations that the backward kernel writes; gradients of parameters are not among them. */
  readonly backwardResults: readonly string[];
  /** Results that are float32 on a device whatever the rows are. */
  readonly float32Results: readonly string[];
  /** Whether matrices may be kept in 8 bits. */
  readonly int8Matrices: boolean;
  /** How rows are kept on a device with bfloat16 weights. */
  readonly deviceRows: 'float32' | 'encoder' | 'same' | 'to_float32';
}

export interface Addon {
  readonly CancelToken: new () => CancelToken;
  readonly NativeEngine: new (
    threads: number,
    target: string,
    deviceIndex?: number,
    memoryLimit?: number,
  ) => NativeEngine;
  readonly NativeWeights: new (engine: NativeEngine, dtype: DType) => NativeWeights;
  readonly NativeProgram: new (weights: NativeWeights, text: string) => NativeProgram;
  readonly NativeProcessGroup: new (timeoutSeconds: number) => NativeProcessGroup;
  /** The library for MPI, or why there is none. */
  communicatorInfo(): { readonly library: string | null; readonly reason: string };
  cpuInfo(): CpuInfo;
  blocking(): Blocking;
  /** For measuring: sets numbers of `blocking`, such as `depth_steps=384`. No run may go on meanwhile. */
  setBlocking(numbers: string): void;
  /** @param target a kernel set that this processor has */
  checkTarget(target: string): TargetCheck;
  /** True for the first caller of this process, whatever its thread. */
  firstToWarn(): boolean;
  cudaInfo(): CudaInfo;
  errorCodes(): string[];
  kernels(): KernelEntry[];
  /** Every op of the native side, in the order of its table. */
  ops(): OpEntry[];
  /**
   * The first element of `bytes` that is NaN or infinite, counted in elements; -1 where there is none, or for other types than F32,
   * F16, BF16.
   */
  firstNonFinite(bytes: Uint8Array, dtype: string): number;
  /**
   * RGB bytes [height, width, 3] to [targetHeight, targetWidth, 3] as the original preprocessing resizes. `source` must stay unchanged
   * until the promise settles.
   */
  resizeBicubic(
    source: Uint8Array,
    width: number,
    height: number,
    targetWidth: number,
    targetHeight: number,
  ): Promise<Uint8Array>;
  /** Starts a program with pipes as standard input and output, without holding this thread. @throws with the reason of the system */
  startProcess(
    file: string,
    args: readonly string[],
    environment: readonly string[],
  ): { readonly pid: number; readonly input: number; readonly output: number };
  /** How a process of `startProcess` has ended; undefined until it has. */
  endOfProcess(pid: number): { readonly code: number | null; readonly signal: number | null } | undefined;
  /** From now on this process gets no more private writable memory than `bytes`: allocations fail beyond. */
  limitMemory(bytes: number): void;
  /** See `top-k.ts`, which is how it is called. `rows` must stay attached and unchanged until the promise settles. */
  topK(
    rows: Float32Array,
    width: number,
    query: Float32Array,
    k: number,
    cancel?: CancelToken,
  ): Promise<{ indices: Int32Array; scores: Float32Array }>;
  /** See `top-k.ts`. The descriptor is duplicated and the query copied before this returns. */
  topKOfFile(
    descriptor: number,
    rows: CodedRows,
    width: number,
    query: Float32Array,
    k: number,
    candidates: number,
    cancel?: CancelToken,
  ): Promise<{ indices: Int32Array; scores: Float32Array }>;
}

/** Where 8-bit rows lie in a file: positions in bytes. */
export interface CodedRows {
  readonly count: number;
  /** Codes, [count, stride]: the width filled up with zeros to a multiple of 64. */
  readonly codesAt: number;
  /** Scales, [count]. */
  readonly scalesAt: number;
  /** float32 rows, [count, width]; 0 where there are none. */
  readonly rowsAt: number;
}

let loaded: Addon | undefined;

/**
 * The addon, which the first call loads.
 *
 * @throws MomeError `MOME_NATIVE_LOAD` with advice
 */
export function addon(): Addon {
  loaded ??= loadAddon();
  return loaded;
}

/** Turns an error of the addon into a {@link MomeError} with the same code. */
export function fromNative(error: unknown): unknown {
  if (error instanceof MomeError || !(error instanceof Error)) return error;
  const { code } = error as { code?: unknown };
  if (typeof code === 'string' && (errorCodes as readonly string[]).includes(code)) {
    return new MomeError(code as ErrorCode, error.message, { cause: error });
  }
  return error;
}

/** Calls the addon and translates its errors. */
export function native<T>(call: (addon: Addon) => T): T {
  try {
    const value = call(addon());
    if (value instanceof Promise) {
      return value.catch((error: unknown) => {
        throw fromNative(error);
      }) as T;
    }
    return value;
  } catch (error) {
    throw fromNative(error);
  }
}
