/** Writes a model folder again with other token types. */
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openCheckpoint, readTensor, type TensorToWrite, writeSafetensors } from '../../src/checkpoint/index.ts';

/** @param change makes the values of `token_type_embeddings.weight` from those of `source` */
export async function rewriteTypes(
  source: string,
  target: string,
  change: (types: Float32Array, width: number) => Float32Array,
): Promise<void> {
  await cp(source, target, { recursive: true });
  // Says how many there are.
  await rm(join(target, 'config.json'));
  const { entries } = await openCheckpoint(join(source, 'model.safetensors'));
  const tensors: TensorToWrite[] = [];
  for (const [name, entry] of entries) {
    const values = await readTensor(entry);
    const width = entry.shape.at(-1) ?? 1;
    const data = name === 'token_type_embeddings.weight' ? change(values, width) : values;
    const shape = data === values ? entry.shape : [data.length / width, width];
    tensors.push({ name, dtype: 'F32', shape, data });
  }
  await writeSafetensors(join(target, 'model.safetensors'), tensors);
}
