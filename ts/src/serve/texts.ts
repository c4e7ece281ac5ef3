/** Texts that clients give as texts or as word pieces. */
import { Pace } from '../runtime/pace.ts';
import type { ServedEngine } from './engines.ts';

export type TextInput = string | readonly string[] | readonly number[] | readonly (readonly number[])[];

/**
 * The texts of an input: one or several, as texts or as ids of word pieces of this model.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for ids that the model does not have
 */
export async function textsOf(input: TextInput, { batcher }: ServedEngine): Promise<string[]> {
  if (typeof input === 'string') return [input];
  if (input.length > 0 && typeof input[0] === 'number') return [batcher.decode(input as readonly number[])];
  const texts: string[] = [];
  const pace = new Pace();
  for (const each of input as readonly (string | readonly number[])[]) {
    texts.push(typeof each === 'string' ? each : batcher.decode(each));
    await pace.rest();
  }
  return texts;
}
