/**
 * Image-text contrastive learning as a program of a step: texts and pictures apart, and hard negatives from their similarities.
 *
 * The loss compares all pairs of the batch with each other. Where the batch is divided, the embeddings of all parts are computed first;
 * the loss of all of them gives their gradients, and each part goes back from its own: the same gradients as in one piece. A process
 * with a single part goes on where it stopped, others compute the embeddings of each part again.
 */
import { type BatchItems, layoutBatch } from '../../model/batch.ts';
import type { TrainingArguments } from '../../model/contract.ts';
import { contrastiveFunction, type DividedContrastive, dividedContrastive } from '../../model/objectives.ts';
import { drawHardNegatives, type Negatives } from '../mining.ts';
import type { Range } from '../whole-batch.ts';
import {
  addLoss,
  dropPaths,
  fusedPairsOf,
  groupsOf,
  indices,
  numberOf,
  objectiveOptionsOf,
  type RunOutputs,
  type StepContext,
  type StepProgram,
  type StepSetting,
  scalarsOf,
} from './step.ts';

/** The programs of `itc` or `irtr`; with `itm` beside it, they draw the hard negatives too. */
export function contrastiveProgram(setting: StepSetting, [objective]: readonly ('itc' | 'irtr')[]): StepProgram {
  const { config, trainable, divided = false } = setting;
  const options = objectiveOptionsOf(setting);
  if (divided) return dividedProgram(setting, dividedContrastive(config, objective!, options, trainable), objective!);
  const training = contrastiveFunction(config, objective!, { ...options, runWeights: false }, trainable);
  return {
    functions: [training],
    run: async (context) => {
      const all = { begin: 0, end: context.whole.texts.length };
      const group = groupsOf(setting.options, context.whole);
      const { dims, inputs, scalars } = sample(setting, context, objective!)(all);
      const args = { dims, inputs: { ...inputs, ...(group && { group }) }, ...(scalars && { scalars }) };
      const outputs = await context.run(training, args, { lastGradients: context.isLastProgram });
      for (const { output, weight } of training.losses)
        addLoss(context, objective!, weight * numberOf(outputs, output));
      await chooseNegatives(setting, context, outputs);
    },
  };
}

function dividedProgram(
  setting: StepSetting,
  { encoder, loss, embeddings }: DividedContrastive,
  objective: 'itc' | 'irtr',
): StepProgram {
  const { width } = setting.config;
  return {
    functions: [encoder, loss],
    run: async (context) => {
      const { whole, group, isLastProgram } = context;
      const pairs = whole.texts.length;
      const parts = whole.microBatches(whole.ownTexts);
      const argumentsOf = sample(setting, context, objective);
      const keep = parts.length === 1;

      // The embeddings of the whole batch.
      const own = embeddings.map(() => new Float32Array((whole.ownTexts.end - whole.ownTexts.begin) * width));
      for (const part of parts) {
        const outputs = await context.run(encoder, withoutGradients(argumentsOf(part), embeddings, width), {
          end: encoder.pause,
          keep,
        });
        for (const [i, name] of embeddings.entries())
          own[i]!.set(outputs[name]!, (part.begin - whole.ownTexts.begin) * width);
      }
      const all = await gatherRows(context, own);

      // Their loss, and its gradient. All processes compute it; the scale's own gradient is to count once.
      const groups = groupsOf(setting.options, whole);
      const given = Object.fromEntries(embeddings.map((name, i) => [name, all[i]!]));
      const args = { dims: { pairs }, inputs: { ...given, ...(groups && { group: groups }) } };
      const compared = await context.run(loss, args as unknown as TrainingArguments, { countsOnce: true });
      if (group.rank === 0)
        for (const { output, weight } of loss.losses) addLoss(context, objective, weight * numberOf(compared, output));
      await chooseNegatives(setting, context, compared);

      // Back from there.
      for (const [place, part] of parts.entries()) {
        const rowsOf = (name: string) => compared[`d_${name}`]!.subarray(part.begin * width, part.end * width);
        const { inputs, ...rest } = argumentsOf(part);
        const gradients = Object.fromEntries(embeddings.map((name) => [`d_${name}`, rowsOf(name)]));
        await context.run(
          encoder,
          { ...rest, inputs: { ...inputs, ...gradients } },
          { ...(keep && { first: encoder.pause }), lastGradients: isLastProgram && place === parts.length - 1 },
        );
      }
    },
  };
}

/** Draws for the whole batch; the arguments of a run on some of its pairs. */
function sample(
  setting: StepSetting,
  { whole, random }: StepContext,
  objective: 'itc' | 'irtr',
): (part: Range) => TrainingArguments {
  const { config, options } = setting;
  const pairs = whole.texts.length;
  const unimodal = new Array<boolean>(2 * pairs).fill(false);
  const dropped = dropPaths(setting, unimodal, objective === 'itc' ? ['block', 'branch'] : ['block'], random);
  const scalars = scalarsOf(options, random);
  return (part) => {
    const places = indices(part);
    const items: BatchItems = {
      texts: places.map((i) => whole.texts[i]!),
      images: places.map((_, picture) => ({ picture })),
    };
    const layout = layoutBatch(config, items, places.length);
    const sequences = [...places, ...places.map((i) => pairs + i)];
    return {
      dims: { ...layout.dims, pairs: places.length },
      inputs: { ...layout.inputs, bytes: whole.pixels(places), ...dropped.inputs(layout, sequences) },
      scalars: scalars(part.begin),
    };
  };
}

/** The first half of the encoder does not read gradients, but a run gives every input. */
function withoutGradients(
  { inputs, ...rest }: TrainingArguments,
  embeddings: DividedContrastive['embeddings'],
  width: number,
): TrainingArguments {
  const none = new Float32Array(rest.dims.pairs! * width);
  return { ...rest, inputs: { ...inputs, ...Object.fromEntries(embeddings.map((name) => [`d_${name}`, none])) } };
}

/** Rows of all processes, one after the other, for each of some arrays. */
async function gatherRows({ group }: StepContext, own: readonly Float32Array[]): Promise<Float32Array[]> {
  if (group.size === 1) return [...own];
  const all: Float32Array[] = [];
  for (const each of own) {
    const parts = await group.allGather(new Uint8Array(each.buffer, each.byteOffset, each.byteLength));
    const bytes = Buffer.concat(parts);
    all.push(new Float32Array(new Uint8Array(bytes).buffer));
  }
  return all;
}

/** Hard negatives for `itm`. Process 0 draws for all: the last bits of similarities may depend on the processor. */
async function chooseNegatives(
  { options }: StepSetting,
  context: StepContext,
  { similarity }: RunOutputs,
): Promise<void> {
  if (!options.objectives.includes('itm')) return;
  const { whole, random, group } = context;
  const count = fusedPairsOf(options, whole);
  const drawn = drawHardNegatives(
    similarity!,
    whole.texts.length,
    count,
    random,
    groupsOf(options, whole),
    options.negativeSharpness,
  );
  context.negatives = group.size === 1 ? drawn : await broadcastNegatives(context, drawn);
}

async function broadcastNegatives({ group }: StepContext, { image, text }: Negatives): Promise<Negatives> {
  const both = Int32Array.of(...image, ...text);
  const bytes = await group.broadcast(new Uint8Array(both.buffer), 0);
  const received = new Int32Array(bytes.slice().buffer);
  return { image: received.subarray(0, image.length), text: received.subarray(image.length) };
}
