/** Texts that clients give as texts or as word pieces. */
import type { ServedEngine } from './engines.ts';

export type TextInput = string | readonly string[] | readonly number[] | readonly (readonly number[])[];

/**
 * The texts of an input: one or several, as texts or as ids of word pieces of this model.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` for ids that the model does not have
 */
export function textsOf(input: TextInput, { batcher }: ServedEngine): string[] {
  if (typeof input === 'string') return [input];
  if (input.length > 0 && typeof input[0] === 'number') return [batcher.decode(input as readonly number[])];
  return (input as readonly (string | readonly number[])[]).map((each) =>
    typeof each === 'string' ? each : batcher.decode(each),
  );
}
