/** Checks what every evaluation is given: an object of options with a model in it. */
import { checkKind, checkSignal, kinds, withMethods } from '../runtime/arguments.ts';

/**
 * @param methods of the model, those that the evaluation calls
 * @throws MomeError `MOME_INVALID_ARGUMENT`
 */
export function checkEvaluation(where: string, options: unknown, ...methods: readonly string[]): void {
  checkKind(where, 'options', options, kinds.object);
  const { model, signal, onProgress } = options as Readonly<Record<string, unknown>>;
  checkKind(where, 'model', model, withMethods('a model of Vlmo.load', ...methods));
  checkSignal(where, signal);
  if (onProgress !== undefined) checkKind(where, 'onProgress', onProgress, kinds.callback);
}
