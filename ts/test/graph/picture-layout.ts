/** How ONNX tests hand over pictures of four patches: no texts, CLS first. */
import type { DenseLayout } from '../../src/graph/index.ts';

export const pictureLayout: DenseLayout = {
  name: 'pictures',
  imageTokens: 5,
  maxTextTokens: 0,
  rowEnds: [{ offset: 'rows', part: 'image' }],
  firstTokens: { cls: 'image' },
  imageType: 1,
  inputs: { ids: 'ids', mask: 'mask', pixels: 'pixels' },
  dims: { batch: 'batch', textLength: 'text_length' },
};
