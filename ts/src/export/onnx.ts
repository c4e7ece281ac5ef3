/**
 * Writes a model for other runtimes: one ONNX file per function, and one file of weights that they share.
 */
import { type FileHandle, open, writeFile } from 'node:fs/promises';
import type { VlmoConfig } from '../architecture/config.ts';
import { takeParameters, valuesOf } from '../checkpoint/index.ts';
import {
  type OnnxGraph,
  type OnnxValue,
  type OnnxWeight,
  type ReadParameter,
  toModel,
  type WeightPlace,
} from '../graph/index.ts';
import { type LoadOptions, type OpenModel, openModel, requireEncoder } from '../inference/load.ts';
import { type Kinds, kinds, report, takeOptions, takePath, takeTexts } from '../runtime/arguments.ts';
import { check, MomeError, requireNotAborted } from '../runtime/errors.ts';
import { writeTogether } from '../runtime/files.ts';
import { packageVersion } from '../runtime/package-files.ts';
import { type OnnxFunctionName, onnxFunction, onnxFunctionNames } from './onnx-functions.ts';

export interface ExportOptions extends Pick<LoadOptions, 'config' | 'imageSize'> {
  /** Functions to export; default: all that the model has heads for. */
  readonly only?: readonly OnnxFunctionName[];
  /** Stops the export; nothing is left behind. */
  readonly signal?: AbortSignal;
  /** Called after each weight with the number of bytes written. */
  readonly onProgress?: (done: number, total: number) => void;
}

const exportKinds: Kinds<ExportOptions> = {
  only: kinds.list,
  config: kinds.object,
  imageSize: kinds.count,
  signal: kinds.signal,
  onProgress: kinds.callback,
};

/** One exported function. */
export interface ExportedFunction {
  readonly name: OnnxFunctionName;
  /** File in the folder, such as `image.onnx`. */
  readonly file: string;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

/** Result of {@link exportOnnx}. */
export interface OnnxExport {
  readonly folder: string;
  readonly functions: readonly ExportedFunction[];
  /** File in the folder that holds the weights of all functions. */
  readonly weights: string;
  readonly weightBytes: number;
  /** Functions for which the model has no head. */
  readonly leftOut: readonly { readonly name: OnnxFunctionName; readonly missing: readonly string[] }[];
  readonly config: VlmoConfig;
}

const weightsFile = 'weights.data';

/** Weights begin at multiples of this, so that a runtime can map them. */
const pageBytes = 4096;

/**
 * Writes `image.onnx`, `text.onnx`, `fusion.onnx` and `weights.data`. Weights go from file to file one by one: memory holds no more than
 * the largest. Files appear when all are complete.
 *
 * @param source model folder or checkpoint; undefined: the model that ships with the library
 * @param target folder, made when it is not there
 * @throws MomeError `MOME_UNSUPPORTED` when a function asked for needs a head the model lacks, `MOME_IO`, `MOME_ABORTED`, `MOME_NOT_FOUND`,
 *   `MOME_INVALID_FILE`, `MOME_INVALID_CONFIG`
 * @example
 * const { functions } = await exportOnnx(undefined, 'emoji-onnx');
 */
export async function exportOnnx(
  source: string | URL | undefined,
  target: string | URL,
  given?: ExportOptions,
): Promise<OnnxExport> {
  const model = source === undefined ? undefined : takePath('export', source, 'a model folder or checkpoint');
  const folder = takePath('export', target, 'a folder to write to');
  const options = takeOptions('export', given, exportKinds);
  requireNotAborted(options.signal, 'export');
  const names = checkNames(options.only);
  const { onProgress: _, ...opening } = options; // its progress is that of graphs
  const open = await openModel(model, opening);
  try {
    return await exportModel(open, names, folder, options);
  } finally {
    open.files.close();
  }
}

async function exportModel(
  { checkpoint, config, path }: OpenModel,
  names: readonly OnnxFunctionName[],
  folder: string,
  options: ExportOptions,
): Promise<OnnxExport> {
  const { sources, missing } = await takeParameters(checkpoint, config);
  requireEncoder(missing, config, checkpoint.path);

  const absent = new Set(missing);
  const emitted = names.map((name) => {
    const graph = onnxFunction(name, config);
    const needed = new Set([...graph.weights.values()].flatMap(({ parameters }) => parameters));
    return { name, graph, missing: [...needed].filter((parameter) => absent.has(parameter)) };
  });
  const graphs = emitted.filter((each) => each.missing.length === 0);
  const leftOut = emitted.filter((each) => each.missing.length > 0);
  check(
    graphs.length > 0 && (options.only === undefined || leftOut.length === 0),
    'MOME_UNSUPPORTED',
    `${path}: expected a model with a head for ${leftOut.map(({ name }) => name).join(', ')}, missing ${leftOut.flatMap((each) => each.missing).join(', ')}`,
  );

  const plan = planWeights(graphs.map(({ graph }) => graph));
  const read: ReadParameter = (name) => valuesOf(sources.get(name)!);
  const about = { version: packageVersion(), metadata: metadataOf(config) };
  const { encodeModel } = await import('../graph/onnx/codec.ts'); // its library is loaded where it is used alone
  await writeTogether(folder, async (fileIn) => {
    await writeWeights(fileIn(weightsFile), plan, read, options);
    for (const { name, graph } of graphs)
      await writeFile(fileIn(`${name}.onnx`), encodeModel(toModel(graph, weightsFile, plan.places, about)));
  });
  return {
    folder,
    functions: graphs.map(({ name, graph: { inputs, outputs } }) => ({ name, file: `${name}.onnx`, inputs, outputs })),
    weights: weightsFile,
    weightBytes: plan.bytes,
    leftOut: leftOut.map(({ name, missing }) => ({ name, missing })),
    config,
  };
}

function checkNames(only: readonly string[] | undefined): readonly OnnxFunctionName[] {
  const known: readonly string[] = onnxFunctionNames;
  const names = only === undefined ? known : takeTexts('export', only, 'functions', 'function');
  const unknown = names.filter((name) => !known.includes(name));
  check(
    names.length > 0 && unknown.length === 0,
    'MOME_INVALID_ARGUMENT',
    `export: expected functions of ${known.join(', ')}, got ${unknown.join(', ') || 'none'}`,
  );
  return onnxFunctionNames.filter((name) => names.includes(name));
}

/** Which weights the file holds, and where. */
interface WeightPlan {
  readonly weights: readonly OnnxWeight[];
  readonly places: ReadonlyMap<string, WeightPlace>;
  readonly bytes: number;
}

function planWeights(graphs: readonly OnnxGraph[]): WeightPlan {
  const weights = new Map(graphs.flatMap((graph) => [...graph.weights]));
  const places = new Map<string, WeightPlace>();
  let end = 0;
  for (const { name, shape } of weights.values()) {
    const offset = Math.ceil(end / pageBytes) * pageBytes;
    const length = 4 * shape.reduce((product, size) => product * size, 1);
    places.set(name, { offset, length });
    end = offset + length;
  }
  return { weights: [...weights.values()], places, bytes: end };
}

async function writeWeights(
  path: string,
  { weights, places, bytes }: WeightPlan,
  read: ReadParameter,
  { signal, onProgress }: ExportOptions,
): Promise<void> {
  const file = await open(path, 'wx');
  try {
    for (const weight of weights) {
      if (signal?.aborted) throw new MomeError('MOME_ABORTED', 'export: it was aborted', { cause: signal.reason });
      const { offset, length } = places.get(weight.name)!;
      const values = await weight.values(read);
      check(
        values.byteLength === length,
        'MOME_INTERNAL',
        `export: expected ${length} bytes of ${weight.name}, got ${values.byteLength}`,
      );
      await writeAt(file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset);
      if (onProgress) await report(onProgress, offset + length, bytes);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

async function writeAt(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(bytes.length - done, 2 ** 30), offset + done);
    done += bytesWritten;
  }
}

/** Description for readers of the files: how to prepare inputs. */
function metadataOf(config: VlmoConfig): Readonly<Record<string, string>> {
  return { imageSize: String(config.imageSize), maxTextLength: String(config.maxTextLength) };
}
