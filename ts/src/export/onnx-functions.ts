/**
 * The functions of a model that are exported, and the dense form of the sequences each takes.
 */

import { imageTokensOf, type VlmoConfig } from '../architecture/config.ts';
import { type DenseLayout, emitOnnx, type OnnxGraph, type Part } from '../graph/index.ts';
import { batchDims, type HeadInputs } from '../model/contract.ts';
import { dualOutputs, fusionOutputs, type ModelFunction } from '../model/functions.ts';

/** The functions that can be exported. */
export const onnxFunctionNames = ['image', 'text', 'fusion'] as const;
export type OnnxFunctionName = (typeof onnxFunctionNames)[number];

interface OnnxFunction {
  readonly of: ModelFunction;
  readonly outputs: readonly string[];
  /** Where the batch's rows of such sequences end: see the order of rows in `encoder.ts`. */
  readonly rowEnds: Readonly<Partial<Record<keyof typeof batchDims, Part>>>;
}

const functions: Readonly<Record<OnnxFunctionName, OnnxFunction>> = {
  image: { of: dualOutputs, outputs: ['image_embed'], rowEnds: { image_end: 'image' } },
  text: { of: dualOutputs, outputs: ['text_embed'], rowEnds: { text_only_end: 'text' } },
  fusion: {
    of: fusionOutputs,
    outputs: ['itm_logits', 'pooled'],
    rowEnds: { text_rows: 'text', fused_end: 'image' },
  },
};

/** Row offsets of a batch in ascending order. */
const rowOffsets = ['text_begin', 'text_only_end', 'text_rows', 'fused_end', 'image_end', 'rows'] as const;

/** The part of a sequence whose first token each index input picks. */
const firstTokens: Readonly<Partial<Record<keyof HeadInputs, Part>>> = {
  image_cls: 'image',
  text_cls: 'text',
  pair_cls: 'text',
};

/** Row of the token type table that the first, or only, picture of a sequence reads. */
const firstPicture = 1;

/** The ONNX graph of one function of a model. */
export function onnxFunction(name: OnnxFunctionName, config: VlmoConfig): OnnxGraph {
  const { of, outputs, rowEnds } = functions[name];
  const holds = (part: Part) => Object.values(rowEnds).includes(part);
  const layout: DenseLayout = {
    name,
    imageTokens: holds('image') ? imageTokensOf(config) : 0,
    maxTextTokens: holds('text') ? config.maxTextLength : 0,
    rowEnds: rowOffsets.map((key) => {
      const part = rowEnds[key];
      return { offset: batchDims[key].name, ...(part && { part }) };
    }),
    firstTokens,
    imageType: firstPicture,
    inputs: { ids: 'text_ids', mask: 'text_mask', pixels: 'pixels' },
    dims: { batch: 'batch', textLength: 'text_length' },
  };
  return emitOnnx(of.build(config, { pixels: 'f32' }).graph, layout, outputs);
}
