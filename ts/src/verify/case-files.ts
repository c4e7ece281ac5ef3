/**
 * Files of a reference case.
 */
import { join } from 'node:path';
import { openSafetensors, readIntegers, readTensor, type TensorEntry } from '../checkpoint/index.ts';
import { check } from '../runtime/errors.ts';
import { exists } from '../runtime/files.ts';
import { type JsonLimits, readJsonFile } from '../runtime/json.ts';

/** Limits of a case's `config.json`, which has sizes and lists of names. */
const configLimits: JsonLimits = { bytes: 2 ** 20, depth: 16, values: 2 ** 16 };

/** Reads `config.json` of a case. @throws MomeError `MOME_NOT_FOUND`, `MOME_INVALID_FILE` */
export async function readCaseConfig(folder: string): Promise<Readonly<Record<string, unknown>>> {
  const path = join(folder, 'config.json');
  const value = await readJsonFile(path, 'the configuration of a reference case', configLimits);
  check(
    typeof value === 'object' && value !== null && !Array.isArray(value),
    'MOME_INVALID_FILE',
    `${path}: expected an object`,
  );
  return value as Record<string, unknown>;
}

/** Tensors of one safetensors file of a case, read when asked for. */
export class CaseTensors {
  readonly path: string;
  readonly entries: ReadonlyMap<string, TensorEntry>;

  private constructor(path: string, entries: ReadonlyMap<string, TensorEntry>) {
    this.path = path;
    this.entries = entries;
  }

  static async open(path: string): Promise<CaseTensors> {
    return new CaseTensors(path, (await openSafetensors(path)).entries);
  }

  /** The file's tensors, or none when there is no such file. */
  static async openOptional(path: string): Promise<CaseTensors | undefined> {
    return (await exists(path)) ? CaseTensors.open(path) : undefined;
  }

  has(name: string): boolean {
    return this.entries.has(name);
  }

  async floats(name: string): Promise<Float32Array> {
    return readTensor(this.entry(name));
  }

  async integers(name: string): Promise<Int32Array> {
    return readIntegers(this.entry(name));
  }

  entry(name: string): TensorEntry {
    const entry = this.entries.get(name);
    check(entry !== undefined, 'MOME_INVALID_FILE', `${this.path}: expected tensor ${name}, found none`);
    return entry;
  }
}
