/**
 * patch_embed: pictures to token rows.
 */
import { type Form, sizesOf, unsupported } from '../onnx/emission.ts';
import * as operators from '../onnx/operators.ts';
import { type Activation, type Dim, fixed, type Input, type Parameter } from '../value.ts';
import type { Linear } from './linear.ts';
import { expectSame, type KernelOp, type Node } from './op.ts';
import { elementsOf, sizeOf } from './work.ts';

type PatchEmbedNode = Node<
  {
    readonly pixels: Input | undefined;
    readonly bytes: Input | undefined;
    readonly picture: Input;
    readonly type_index: Input;
    readonly weight: Parameter;
    readonly bias: Parameter;
    readonly cls: Parameter;
    readonly position: Parameter | undefined;
    readonly type: Parameter;
    readonly mask: Input | undefined;
    readonly mask_token: Parameter | undefined;
  },
  { readonly out: Activation },
  { readonly image_size: number; readonly patch_size: number }
>;

/** Weights of the image embedding. */
export interface PatchEmbedding {
  /** weight [width, 3 x patch x patch] and bias [width] */
  readonly projection: Required<Linear<'patch', 'width'>>;
  readonly cls: Parameter<['one', 'one', 'width']>;
  /** [1, image tokens, width] with absolute positions, else undefined. */
  readonly position: Parameter<['one', 'imageTokens', 'width']> | undefined;
  readonly type: Parameter<['types', 'width']>;
}

/** Patches that the model is not to see. */
export interface PatchMask {
  /** For each image sequence and each patch in row-major grid order: 1 where it is masked, else 0. */
  readonly flags: Input<['images', 'patches'], 'i32'>;
  /** The embedding that masked patches have in place of their projection. */
  readonly token: Parameter<['one', 'one', 'width']>;
}

/** Pixels as float32 already normalised, [pictures, 3, S, S], or as bytes, [pictures, S, S, 3]. */
export type Pixels =
  | Input<['pictures', 'channels', 'imageHeight', 'imageWidth'], 'f32'>
  | Input<['pictures', 'imageHeight', 'imageWidth', 'channels'], 'u8'>;

/**
 * Image rows: patches projected or masked, CLS prepended, (+ position), + token type.
 *
 * @param picture which picture each image sequence shows
 * @param typeIndex token type of each image sequence: 1, or 2 for the second picture of a pair
 * @param rows the dimension of the result's rows: image sequences x image tokens
 * @param mask patches that have the mask token in place of their projection; default: none
 * @returns image rows x width
 * @see arXiv 2111.02358, section 2.1; arXiv 2106.08254, section 2.3 for masked patches
 */
export function patchEmbed<R extends string>(
  pixels: Pixels,
  picture: Input<['images'], 'i32'>,
  typeIndex: Input<['images'], 'i32'>,
  rows: Dim<R>,
  { projection: { weight, bias }, cls, position, type }: PatchEmbedding,
  sizes: { readonly imageSize: number; readonly patchSize: number },
  mask?: PatchMask,
): Activation<[R, 'width']> {
  expectSame('patch_embed: width of bias', weight.shape[0], bias.shape[0]);
  if (mask) {
    const grid = sizes.imageSize / sizes.patchSize;
    expectSame('patch_embed: images of the mask', picture.shape[0], mask.flags.shape[0]);
    expectSame('patch_embed: patches of the mask', fixed('patches', grid ** 2), mask.flags.shape[1]);
    expectSame('patch_embed: width of the mask token', weight.shape[0], mask.token.shape[2]);
  }
  const out = picture.graph.activation<[R, 'width']>([rows, weight.shape[0]]);
  const [floats, bytes] = pixels.dtype === 'u8' ? [undefined, pixels] : [pixels, undefined];
  picture.graph.push(patchEmbedOp, {
    operands: {
      pixels: floats,
      bytes,
      picture,
      type_index: typeIndex,
      weight,
      bias,
      cls,
      position,
      type,
      mask: mask?.flags,
      mask_token: mask?.token,
    },
    results: { out },
    attributes: { image_size: sizes.imageSize, patch_size: sizes.patchSize },
  });
  return out;
}

export const patchEmbedOp = {
  name: 'patch_embed',
  build: patchEmbed,
  operands: {
    pixels: 'input',
    bytes: 'input',
    picture: 'input',
    type_index: 'input',
    weight: 'matrix',
    bias: 'parameter',
    cls: 'parameter',
    position: 'parameter',
    type: 'parameter',
    mask: 'input',
    mask_token: 'parameter',
  },
  results: { out: 'required' },

  gradient({ operands, results: { out }, attributes }, context) {
    const dout = context.gradient(out);
    if (dout === undefined) return;
    const { pixels, bytes, picture, type_index, mask } = operands;
    context.emit(patchEmbedOp, {
      operands: {
        pixels,
        bytes,
        picture,
        type_index,
        mask,
        dout,
        ...context.parameterGradients(operands, { begin: 0, end: out.shape[0]! }),
      },
      gradients: {},
      attributes,
    });
  },

  cost({ operands: { weight }, results: { out } }, binding) {
    const rows = sizeOf(out.shape[0]!, binding);
    const weights = elementsOf(weight.shape, binding);
    return {
      flops: 2 * rows * weights,
      bytes: 4 * (weights + elementsOf(out.shape, binding)) + 4 * rows * (weights / sizeOf(out.shape[1]!, binding)),
    };
  },

  onnx(
    { operands: { weight, bias, cls, position, type, bytes, mask }, attributes: { image_size, patch_size } },
    emission,
  ) {
    const { onnx, layout } = emission;
    if (bytes) throw unsupported('pixels as bytes');
    if (mask) throw unsupported('masked patches');
    const [width] = sizesOf(weight.shape);
    const from: Form = (values) => values;
    const kernel = { suffix: 'kernel', shape: [width!, 3, patch_size, patch_size], from };
    const patches = onnx.op(
      'Conv',
      [emission.pixels(3, image_size), emission.weight(weight, kernel), emission.weight(bias)],
      { kernel_shape: [patch_size, patch_size], strides: [patch_size, patch_size] },
    );
    const rows = onnx.op('Transpose', [onnx.op('Reshape', [patches, onnx.ints(0, 0, -1)])], { perm: [0, 2, 1] });
    const batch = onnx.op('Shape', [rows], { start: 0, end: 1 });
    const shape = onnx.op('Concat', [batch, onnx.ints(1, width!)], { axis: 0 });
    const tokens = onnx.op('Concat', [onnx.op('Expand', [emission.weight(cls), shape]), rows], { axis: 1 });
    const placed = position ? onnx.op('Add', [tokens, emission.weight(position)]) : tokens;
    return onnx.op('Add', [placed, operators.rowOf(type, layout.imageType, emission)]);
  },
} as const satisfies KernelOp<'patch_embed', PatchEmbedNode>;
