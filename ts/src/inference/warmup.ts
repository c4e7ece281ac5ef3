/** One small call of each kind, so that the first request of a service does not wait for weights to be packed. */
import { describe, type Kinds, kinds, report } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { type Ability, abilities } from './abilities.ts';
import type { MixedItems } from './arguments.ts';
import type { ImageInput } from './pictures.ts';
import { type CallOptions, callKinds } from './results.ts';

export interface WarmupOptions extends CallOptions {
  /** Calls to make ready; default: all that the model has heads for. Each takes memory for the weights of its head. */
  readonly calls?: readonly Ability[];
}

export const warmupKinds: Kinds<WarmupOptions> = { ...callKinds, calls: kinds.list };

/** The calls of a model that are made. */
interface WarmModel {
  readonly abilities: ReadonlySet<Ability>;
  mixed(items: MixedItems, options: CallOptions): Promise<unknown>;
  answer(image: ImageInput, question: string, options: CallOptions): Promise<unknown>;
  reason(images: readonly [ImageInput, ImageInput], statement: string, options: CallOptions): Promise<unknown>;
  fillMask(image: ImageInput | null, text: string, options: CallOptions): Promise<unknown>;
}

/** A white PNG of one pixel: a file, so that the processes that decode files are started as well. */
const picture = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==',
  'base64',
);
const text = 'a [MASK]';

/**
 * @param hasVocabulary without one no text can be read: pictures alone are embedded
 * @throws MomeError `MOME_INVALID_ARGUMENT` for a call that is none, `MOME_UNSUPPORTED` for one that the model has no head for
 */
export async function warmUp(
  model: WarmModel,
  hasVocabulary: boolean,
  { calls, onProgress, signal }: WarmupOptions,
): Promise<void> {
  const wanted = calls === undefined ? [...model.abilities] : [...new Set(calls)];
  for (const call of wanted) {
    check(
      (abilities as readonly unknown[]).includes(call),
      'MOME_INVALID_ARGUMENT',
      `warmup: expected calls of ${abilities.join(', ')}, got ${describe(call)}`,
    );
    check(model.abilities.has(call), 'MOME_UNSUPPORTED', `warmup: expected a model with a head for ${call}, got none`);
  }
  const options: CallOptions = signal ? { signal } : {};
  const embed: MixedItems = { images: [picture], texts: hasVocabulary ? [text] : [] };
  const match: MixedItems = { pairs: [{ image: picture, text }] };
  const works: (() => Promise<unknown>)[] = [];
  if (wanted.includes('embed')) works.push(() => model.mixed(embed, options));
  if (hasVocabulary) {
    if (wanted.includes('match')) works.push(() => model.mixed(match, options));
    // What `rerank` and a queue do: embeddings and matches of one run.
    if (wanted.includes('embed') && wanted.includes('match'))
      works.push(() => model.mixed({ ...embed, ...match }, options));
    if (wanted.includes('answer')) works.push(() => model.answer(picture, text, options));
    if (wanted.includes('reason')) works.push(() => model.reason([picture, picture], text, options));
    if (wanted.includes('fillMask')) works.push(() => model.fillMask(picture, text, options));
  }
  for (const [done, work] of works.entries()) {
    await work();
    if (onProgress) await report(onProgress, done + 1, works.length);
  }
}
