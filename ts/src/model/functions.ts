/**
 * The functions of a model that inference runs, each a graph with named outputs. A count of 0 is allowed everywhere, so one
 * function serves any mix of texts, pictures and pairs.
 */

import type { VlmoConfig } from '../architecture/config.ts';
import {
  type Activation,
  forwardSequence,
  Graph,
  gatherRows,
  type InputOf,
  inputOf,
  type Lowered,
  lower,
  type RunArrays,
  type RunDimsOf,
  type RunSizes,
} from '../graph/index.ts';
import type { Batch } from './batch.ts';
import {
  type BatchArrays,
  type BatchSizes,
  type HeadInputs,
  type headDims,
  headInputs,
  type PictureArrays,
} from './contract.ts';
import { type Encoded, type EncoderOptions, encode, encodeKept, finalNorm, vlBranch } from './encoder.ts';
import { embedding, itmLogits, mlmLogits, nlvr2Logits, pooled, vqaLogits } from './heads.ts';

type HeadInput = keyof HeadInputs;
type HeadDim = keyof typeof headDims;

/**
 * One function of a model.
 *
 * @typeParam I inputs that its heads read
 * @typeParam D dimensions that its runs give besides those of a batch and of the inputs
 * @typeParam O its outputs
 */
export interface ModelFunction<
  I extends HeadInput = HeadInput,
  D extends HeadDim = HeadDim,
  O extends string = string,
> {
  readonly inputs: readonly I[];
  readonly dims: readonly D[];
  build(
    config: VlmoConfig,
    options?: Partial<EncoderOptions>,
  ): { readonly graph: Graph; readonly outputs: Readonly<Record<O, Activation>> };
}

/** Part `K` of an object, which may be left out when there is nothing to give. */
type Part<K extends string, T> = keyof T extends never ? { readonly [P in K]?: T } : { readonly [P in K]: T };

/** Arguments of a run of `F` besides its batch and pictures. */
export type OwnArguments<F> =
  F extends ModelFunction<infer I, infer D, string>
    ? Part<'dims', Omit<RunSizes<D | RunDimsOf<Pick<HeadInputs, I>>>, keyof Batch['dims']>> &
        Part<'inputs', Omit<RunArrays<Pick<HeadInputs, I>>, keyof Batch['inputs']>>
    : never;

/** Outputs of a run of `F`. */
export type OutputsOf<F> =
  F extends ModelFunction<HeadInput, HeadDim, infer O> ? { readonly [K in O]: Float32Array } : never;

/** All that a run of `F` gives. */
export type ArgumentsOf<F> =
  F extends ModelFunction<infer I, infer D, string>
    ? {
        readonly dims: BatchSizes & RunSizes<D | RunDimsOf<Pick<HeadInputs, I>>>;
        readonly inputs: BatchArrays & Partial<PictureArrays> & RunArrays<Pick<HeadInputs, I>>;
      }
    : never;

/** The arguments of a run. */
export function argumentsOf<F extends ModelFunction>(
  batch: Pick<Batch, 'dims' | 'inputs'>,
  pictures: Partial<PictureArrays>,
  own: OwnArguments<F>,
): ArgumentsOf<F> {
  const args = { dims: { ...batch.dims, ...own.dims }, inputs: { ...batch.inputs, ...pictures, ...own.inputs } };
  return args as unknown as ArgumentsOf<F>;
}

/** A function of a model that encodes a batch and lets `heads` read it. */
export function modelFunction<R extends string, I extends HeadInput, O extends string, D extends HeadDim = never>(
  name: string,
  spec: {
    readonly encode: (graph: Graph, config: VlmoConfig, options: EncoderOptions) => Encoded<R>;
    readonly inputs: readonly I[];
    readonly dims?: readonly D[];
    readonly heads: (
      encoded: Encoded<R>,
      inputs: { readonly [K in I]: InputOf<HeadInputs[K]> },
      options: EncoderOptions,
    ) => Readonly<Record<O, Activation>>;
  },
): ModelFunction<I, D, O> {
  return {
    inputs: spec.inputs,
    dims: spec.dims ?? [],
    build(config, options) {
      const graph = new Graph(name);
      const encoderOptions: EncoderOptions = { pixels: 'u8', ...options };
      const encoded = spec.encode(graph, config, encoderOptions);
      const inputs = Object.fromEntries(spec.inputs.map((input) => [input, inputOf(graph, headInputs, input)]));
      const outputs = spec.heads(encoded, inputs as { readonly [K in I]: InputOf<HeadInputs[K]> }, encoderOptions);
      for (const [output, value] of Object.entries<Activation>(outputs)) graph.output(output, value);
      return { graph, outputs };
    },
  };
}

/** Embeddings of texts and pictures apart, in one pass. */
export const embed = modelFunction('embed', {
  encode: encodeKept,
  inputs: ['kept_text', 'kept_image'],
  heads: ({ hidden, weights }, { kept_text, kept_image }) => ({
    text_embed: embedding(hidden, kept_text, 'itc_text_proj', weights),
    image_embed: embedding(hidden, kept_image, 'itc_image_proj', weights),
  }),
});

/** Image-text matching logits of pairs. */
export const match = modelFunction('match', {
  encode: encodeKept,
  inputs: ['kept_pair'],
  heads: ({ hidden, weights }, { kept_pair }) => ({
    itm_logits: itmLogits(pooled(hidden, kept_pair, weights), weights),
  }),
});

/** Embeddings of texts and pictures and matching logits of pairs, all in one pass. */
export const mixed = modelFunction('mixed', {
  encode: encodeKept,
  inputs: ['kept_text', 'kept_image', 'kept_pair'],
  heads: ({ hidden, weights }, { kept_text, kept_image, kept_pair }) => ({
    text_embed: embedding(hidden, kept_text, 'itc_text_proj', weights),
    image_embed: embedding(hidden, kept_image, 'itc_image_proj', weights),
    itm_logits: itmLogits(pooled(hidden, kept_pair, weights), weights),
  }),
});

/** Answer logits of (picture, question) pairs. */
export const answer = modelFunction('answer', {
  encode: encodeKept,
  inputs: ['kept_pair'],
  heads: ({ hidden, weights }, { kept_pair }) => ({
    vqa_logits: vqaLogits(pooled(hidden, kept_pair, weights), weights),
  }),
});

/** Truth logits of statements about two pictures. Pairs 2 i and 2 i + 1 show the pictures of statement i. */
export const reason = modelFunction('reason', {
  encode: encodeKept,
  inputs: ['kept_pair'],
  dims: ['statements'],
  heads: ({ hidden, weights }, { kept_pair }) => ({
    nlvr2_logits: nlvr2Logits(pooled(hidden, kept_pair, weights), weights),
  }),
});

/** Vocabulary logits of chosen text rows, alone or fused. */
export const fillMask = modelFunction('fill_mask', {
  encode,
  inputs: ['mlm_rows'],
  heads: ({ hidden, weights }, { mlm_rows }) => ({ mlm_logits: mlmLogits(hidden, mlm_rows, weights) }),
});

/** What a sequence can be read for; a model has a head for each, or lacks it. */
export const headNames = ['embed', 'match', 'answer', 'reason', 'fillMask'] as const;
export type HeadName = (typeof headNames)[number];

/** Inputs of `together` by the head that reads them. */
const readersOf = {
  embed: ['kept_text', 'kept_image'],
  match: ['kept_match'],
  answer: ['kept_answer'],
  reason: ['kept_reason'],
  fillMask: ['kept_mask'],
} as const satisfies Readonly<Record<HeadName, readonly HeadInput[]>>;

/**
 * All heads in one pass, so that sequences that are read for different things share a run. Each head has rows of its own, or none.
 *
 * @param has those that the model has; outputs of others are left out
 */
export const together = (has: ReadonlySet<HeadName>) =>
  modelFunction('together', {
    encode: encodeKept,
    inputs: headNames.flatMap((head) => (has.has(head) ? [...readersOf[head]] : [])),
    dims: has.has('reason') ? ['statements'] : [],
    heads: ({ hidden, weights }, { kept_text, kept_image, kept_match, kept_answer, kept_reason, kept_mask }) => {
      const outputs = {
        ...(has.has('embed') && {
          text_embed: embedding(hidden, kept_text, 'itc_text_proj', weights),
          image_embed: embedding(hidden, kept_image, 'itc_image_proj', weights),
        }),
        ...(has.has('match') && { itm_logits: itmLogits(pooled(hidden, kept_match, weights), weights) }),
        ...(has.has('answer') && { vqa_logits: vqaLogits(pooled(hidden, kept_answer, weights), weights) }),
        ...(has.has('reason') && { nlvr2_logits: nlvr2Logits(pooled(hidden, kept_reason, weights), weights) }),
        ...(has.has('fillMask') && { mlm_logits: mlmLogits(hidden, kept_mask, weights) }),
      };
      return outputs as Required<typeof outputs>;
    },
  });

/** Outputs of a unimodal batch: all hidden rows, both embeddings and the embeddings of the VL branch. */
export type DualOutput = 'hidden' | 'text_embed' | 'image_embed' | 'text_embed_vl' | 'image_embed_vl';
/** Outputs of a fused batch, without the NLVR2 and MLM heads: all hidden rows, pooled rows, ITM and VQA logits. */
export type FusionOutput = 'hidden' | 'pooled' | 'itm_logits' | 'vqa_logits';

/** The outputs that `wanted` names; no others are built, because a model may lack their heads. */
function chosen<O extends string, All extends Readonly<Record<O, () => Activation>>>(
  wanted: readonly O[],
  outputs: All,
): Readonly<Record<O, Activation>> {
  return Object.fromEntries(wanted.map((name) => [name, outputs[name]()])) as Readonly<Record<O, Activation>>;
}

/** A function with the outputs of a unimodal batch that `wanted` names. */
export const dualOutputsOf = <O extends DualOutput>(wanted: readonly O[]) =>
  modelFunction('dual_outputs', {
    encode,
    inputs: ['text_cls', 'image_cls', 'kept', 'kept_text', 'kept_image'],
    heads: (encoded, { text_cls, image_cls, kept, kept_text, kept_image }, options) => {
      const { hidden, weights } = encoded;
      const usesBranch = wanted.some((name) => name.endsWith('_vl'));
      const branch = usesBranch ? vlBranch({ ...encoded, hidden: gatherRows(hidden, kept) }, options) : hidden;
      return chosen(wanted, {
        hidden: () => finalNorm(hidden, weights),
        text_embed: () => embedding(hidden, text_cls, 'itc_text_proj', weights),
        image_embed: () => embedding(hidden, image_cls, 'itc_image_proj', weights),
        text_embed_vl: () => embedding(branch, kept_text, 'itc_vl_text_proj', weights),
        image_embed_vl: () => embedding(branch, kept_image, 'itc_vl_image_proj', weights),
      });
    },
  });

/** A function with the outputs of a fused batch that `wanted` names. */
export const fusionOutputsOf = <O extends FusionOutput>(wanted: readonly O[]) =>
  modelFunction('fusion_outputs', {
    encode,
    inputs: ['pair_cls'],
    heads: ({ hidden, weights }, { pair_cls }) => {
      if (wanted.every((name) => name === 'hidden'))
        return { hidden: finalNorm(hidden, weights) } as Readonly<Record<O, Activation>>;
      const rows = pooled(hidden, pair_cls, weights);
      return chosen(wanted, {
        hidden: () => finalNorm(hidden, weights),
        pooled: () => rows,
        itm_logits: () => itmLogits(rows, weights),
        vqa_logits: () => vqaLogits(rows, weights),
      });
    },
  });

/** Everything a unimodal batch gives. */
export const dualOutputs = dualOutputsOf<DualOutput>([
  'hidden',
  'text_embed',
  'image_embed',
  'text_embed_vl',
  'image_embed_vl',
]);
/** Everything a fused batch gives but the NLVR2 and MLM heads. */
export const fusionOutputs = fusionOutputsOf<FusionOutput>(['hidden', 'pooled', 'itm_logits', 'vqa_logits']);

/** Lowers a function for inference. */
export function lowerFunction(
  { build }: ModelFunction,
  config: VlmoConfig,
  options?: Partial<EncoderOptions>,
): Lowered {
  const { graph } = build(config, options);
  return lower(graph, forwardSequence(graph));
}
