/**
 * Engines, weights and programs: the native classes with typed errors, abort signals and safe disposal.
 */
import { onAbort } from './abort.ts';
import {
  type AdamwOptions,
  type Addon,
  addon,
  type DType,
  type FileRegion,
  fromNative,
  type NativeEngine,
  type NativeProcessGroup,
  type NativeProgram,
  type NativeWeights,
  native,
  type ParameterKind,
  type RunArguments,
  type RunOutputs,
  type RunPart,
} from './addon.ts';
import { type Device, deviceName } from './device.ts';
import { check, MomeError } from './errors.ts';
import type { InputFile } from './input-file.ts';

export interface EngineOptions {
  /** Worker threads, the coordinator included; default: the physical cores this process may use. */
  readonly threads?: number;
  /**
   * Kernel set: `ref`; on x86-64 `avx2`, `avx2_vnni`, `avx512`, `avx512_vnni`, `avx512_bf16` or `amx`; on arm64 `neon`, `neon_dot` or
   * `neon_bf16`. Default: `MOME_TARGET`, else the fastest this processor has whose self-check passes.
   */
  readonly target?: string;
  /** Where runs take place; default: this processor. */
  readonly device?: Device;
  /** Bytes a CUDA device may hold for this engine, weights and arena together; default: all its memory. */
  readonly memoryLimit?: number;
}

/** Bytes that an engine holds outside JavaScript's heap. */
interface Held {
  readonly engine: NativeEngine;
  readonly weights: NativeWeights[];
}

/** Frees the native memory of a dropped engine once its object was collected. */
const dropped = new FinalizationRegistry<Held>(free);

function free({ engine, weights }: Held): void {
  for (const each of weights) each.dispose();
  engine.dispose();
}

/** The fastest kernel set whose self-check passes; warns once per process of faster ones that fail. */
function defaultTarget(a: Addon): string {
  const { best, rejected } = a.cpuInfo();
  if (rejected.length > 0 && a.firstToWarn()) {
    const reasons = rejected.map(({ target, reason }) => `${target} (${reason})`).join(', ');
    process.emitWarning(
      `expected every kernel set to compute rightly, the self-check failed for ${reasons}; ${best} is taken instead. ` +
        '"mome doctor" checks all kernel sets.',
      { type: 'MomeWarning', code: 'MOME_TARGET_REJECTED' },
    );
  }
  return best;
}

/** Threads and scratch memory that runs share. Runs are done one after the other, in the order of their calls. */
export class Engine {
  readonly threads: number;
  readonly target: string;
  readonly device: Device;
  readonly #native: NativeEngine;
  readonly #held: Held;
  #disposed = false;
  /** Bytes that V8 was last told of. */
  #accounted = 0;

  /**
   * @throws MomeError `MOME_DEVICE_UNAVAILABLE` for a target that this processor lacks or whose self-check fails,
   * `MOME_INVALID_ARGUMENT`
   */
  constructor({ threads, target, device = { kind: 'cpu' }, memoryLimit = 0 }: EngineOptions = {}) {
    check(
      threads === undefined || (Number.isInteger(threads) && threads >= 0 && threads <= 1024),
      'MOME_INVALID_ARGUMENT',
      `engine: expected 0 to 1024 threads, got ${threads}`,
    );
    check(
      Number.isSafeInteger(memoryLimit) && memoryLimit >= 0,
      'MOME_INVALID_ARGUMENT',
      `engine: expected a memory limit in bytes, got ${memoryLimit}`,
    );
    this.device = device;
    this.#native = native((a) =>
      device.kind === 'cpu'
        ? new a.NativeEngine(threads ?? 0, target || process.env.MOME_TARGET || defaultTarget(a))
        : new a.NativeEngine(threads ?? 1, 'cuda', device.index, memoryLimit),
    );
    this.#held = { engine: this.#native, weights: [] };
    dropped.register(this, this.#held, this);
    this.threads = this.#native.threads;
    this.target = this.#native.target;
  }

  /** @param dtype type of matrices in memory; weights in float32 can be trained, and in bfloat16 where the kernel set multiplies it */
  createWeights(dtype: DType = 'float32'): Weights {
    this.#requireAlive();
    const weights = native((a) => new a.NativeWeights(this.#native, dtype));
    this.#held.weights.push(weights);
    return new Weights(this, weights);
  }

  /** Compiles a lowered graph against `weights`. @throws MomeError `MOME_NOT_FOUND` for a parameter the weights lack */
  createProgram<A extends RunArguments = RunArguments, O extends Outputs = Outputs>(
    weights: Weights,
    text: string,
  ): Program<A, O> {
    this.#requireAlive();
    return new Program<A, O>(
      this,
      native((a) => new a.NativeProgram(weights.native, text)),
    );
  }

  /** The name of the device runs take place on. */
  get deviceName(): 'cpu' | `cuda:${number}` {
    return deviceName(this.device);
  }

  /** Bytes held in native memory, a CUDA device's included. */
  memory(): { readonly arenaBytes: number; readonly weightBytes: number } {
    this.#requireAlive();
    return this.#memory();
  }

  /** Lets V8 know of native memory, so that it collects engines that were dropped. To be called when that memory may have changed. */
  account(): void {
    if (this.#disposed) return;
    const { arenaBytes, weightBytes } = this.#memory();
    const bytes = arenaBytes + weightBytes;
    if (bytes !== this.#accounted) this.#native.holds(bytes);
    this.#accounted = bytes;
  }

  /**
   * Stops the run in progress and those that wait, which reject with `MOME_ABORTED`, and frees everything. Calling it again does nothing.
   * An engine that is dropped instead is freed when V8 collects it.
   */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    dropped.unregister(this);
    free(this.#held);
  }

  #memory(): { readonly arenaBytes: number; readonly weightBytes: number } {
    const weightBytes = this.#held.weights.reduce((sum, { bytes }) => sum + bytes, 0);
    return { arenaBytes: this.#native.arenaBytes, weightBytes };
  }

  #requireAlive(): void {
    check(!this.#disposed, 'MOME_DISPOSED', 'engine: expected a live engine, got one that was disposed');
  }
}

/** Values read or written between two looks at other events: 4 MiB. */
const valuesAtOnce = 2 ** 20;

/** Named parameters on one engine. */
export class Weights {
  readonly native: NativeWeights;
  /** Kept alive as long as its weights are. */
  readonly engine: Engine;

  constructor(engine: Engine, weights: NativeWeights) {
    this.engine = engine;
    this.native = weights;
  }

  /** Copies `values` in. All parameters must be there before a program is made. */
  async add(name: string, shape: readonly number[], values: Float32Array): Promise<void> {
    const count = shape.reduce((product, size) => product * size, 1);
    check(
      values.length === count,
      'MOME_INVALID_SHAPE',
      `weights: expected ${count} values for ${name}, got ${values.length}`,
    );
    native(() => this.native.add(name, shape));
    await this.#write(name, values, 'value');
  }

  /** Takes tensors straight from an open file, which native code keeps open by itself and reads when a program first needs them. */
  async map(file: InputFile, regions: readonly FileRegion[]): Promise<void> {
    await native(() => this.native.map(file.fd, file.path, regions));
    this.engine.account();
  }

  async read(name: string): Promise<Float32Array> {
    return this.#read(name, 'value');
  }

  async write(name: string, values: Float32Array): Promise<void> {
    await this.#write(name, values, 'value');
  }

  /** A parameter's gradient or one of AdamW's moments. */
  async readState(name: string, kind: 'gradient' | 'm' | 'v'): Promise<Float32Array> {
    return this.#read(name, kind);
  }

  async writeState(name: string, kind: 'gradient' | 'm' | 'v', values: Float32Array): Promise<void> {
    await this.#write(name, values, kind);
  }

  /** Reads in pieces: each is copied on the thread of the caller. */
  async #read(name: string, kind: ParameterKind): Promise<Float32Array> {
    const count = this.#countOf(name);
    if (count <= valuesAtOnce) return await native(() => this.native.read(name, kind, 0, count));
    const values = new Float32Array(count);
    for (let first = 0; first < count; first += valuesAtOnce) {
      const part = Math.min(valuesAtOnce, count - first);
      values.set(await native(() => this.native.read(name, kind, first, part)), first);
    }
    return values;
  }

  async #write(name: string, values: Float32Array, kind: ParameterKind): Promise<void> {
    const count = this.#countOf(name);
    check(
      values.length === count,
      'MOME_INVALID_SHAPE',
      `weights: expected ${count} values of ${name}, got ${values.length}`,
    );
    for (let first = 0; first < count; first += valuesAtOnce) {
      const part = values.subarray(first, Math.min(count, first + valuesAtOnce));
      await native(() => this.native.write(name, part, kind, first));
    }
  }

  #countOf(name: string): number {
    const count = native(() => this.native.count(name));
    check(count !== undefined, 'MOME_NOT_FOUND', `weights: expected the name of a parameter, got ${name}`);
    return count;
  }

  /** Adds zero gradients and moments to every parameter. */
  async enableTraining(): Promise<void> {
    await native(() => this.native.enableTraining());
    this.engine.account();
  }

  async zeroGradients(): Promise<void> {
    await native(() => this.native.zeroGradients());
  }

  /** The Euclidean norm of all gradients together. */
  async gradientNorm(): Promise<number> {
    return await native(() => this.native.gradientNorm());
  }

  async adamw(options: AdamwOptions): Promise<void> {
    await native(() => this.native.adamw(options));
  }

  dispose(): void {
    this.native.dispose();
  }
}

type Outputs = RunOutputs['outputs'];

/**
 * A compiled graph.
 *
 * @typeParam A arguments of its runs
 * @typeParam O its outputs
 */
export class Program<A extends RunArguments = RunArguments, O extends Outputs = Outputs> {
  /** Kept alive as long as its programs are. */
  readonly engine: Engine;
  readonly #native: NativeProgram;
  readonly #names: NativeProgram['names'];
  // Read by each run before it returns.
  readonly #dims: Float64Array;
  readonly #scalars: Float64Array;

  constructor(engine: Engine, program: NativeProgram) {
    this.engine = engine;
    this.#native = program;
    this.#names = program.names;
    this.#dims = new Float64Array(this.#names.dims.length);
    this.#scalars = new Float64Array(this.#names.scalars.length);
  }

  /**
   * Runs the program; its named outputs.
   *
   * @throws MomeError `MOME_INVALID_SHAPE`, `MOME_INVALID_ARGUMENT`, `MOME_OUT_OF_MEMORY`, `MOME_ABORTED`, `MOME_DISPOSED`
   */
  async run(args: A, signal?: AbortSignal, part?: RunPart): Promise<O> {
    return (await this.#start(args, signal, part)).outputs as O;
  }

  /** Runs the program and times each instruction. */
  async profile(args: A): Promise<Required<RunOutputs>> {
    return (await this.#start({ ...args, profile: true })) as Required<RunOutputs>;
  }

  // After a run its weights fill the caches and the code of the way back is cold: keep this to one step, without copies.
  async #start(
    { dims, scalars = {}, inputs, profile = false }: RunArguments,
    signal?: AbortSignal,
    part?: RunPart,
  ): Promise<RunOutputs> {
    if (signal?.aborted) throw aborted(signal);
    const cancel = signal && new (addon().CancelToken)();
    const ended = onAbort(signal, () => cancel?.cancel());
    const names = this.#names;
    try {
      return await this.#native.run(
        inOrder(names.dims, dims, this.#dims),
        inOrder(names.scalars, scalars, this.#scalars),
        names.inputs.map((name) => inputs[name]),
        profile,
        cancel,
        part,
      );
    } catch (error) {
      const failure = fromNative(error);
      if (signal?.aborted && failure instanceof MomeError && failure.code === 'MOME_ABORTED') throw aborted(signal);
      throw failure;
    } finally {
      ended();
      this.engine.account();
    }
  }

  /** Begins to sum gradients over the processes of a group. */
  reduceGradients(group: NativeProcessGroup, parameters: readonly string[]): void {
    native(() => this.#native.reduceGradients(group, parameters));
  }

  /** Drops the row-major form of matrices that are read packed: for inference, once. */
  async releasePlain(): Promise<void> {
    await native(() => this.#native.releasePlain());
  }

  dispose(): void {
    this.#native.dispose();
  }
}

/** Puts values into the order of `names`; NaN for one that is missing, which native code refuses. */
function inOrder(
  names: readonly string[],
  values: Readonly<Record<string, number>>,
  ordered: Float64Array,
): Float64Array {
  for (let i = 0; i < names.length; i++) ordered[i] = values[names[i]!] ?? Number.NaN;
  return ordered;
}

function aborted(signal: AbortSignal): MomeError {
  return new MomeError('MOME_ABORTED', 'the call was aborted', { cause: signal.reason });
}
