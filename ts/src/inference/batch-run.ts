/**
 * One run of queued items, and the result of each.
 */
import type { Batch, BatchItems, TokenIds } from '../model/batch.ts';
import { type HeadName, headNames, type OutputsOf } from '../model/functions.ts';
import type { Masked, Reads } from '../model/reads.ts';
import { PictureSet } from './pictures.ts';
import type { Functions } from './programs.ts';
import type { Call, Runs } from './runs.ts';

/** A prepared item. Without text it is a picture to embed, without picture a text; with both it is a pair. */
export interface RunItem {
  /** What it is read for. */
  readonly head: HeadName;
  readonly ids: TokenIds | undefined;
  /** One, or the two of a statement. */
  readonly pictures: readonly { readonly bytes: Uint8Array | undefined }[];
  /** Places of `[MASK]` pieces. */
  readonly positions: readonly number[];
}

/** An item and its place in the run. */
type Placed = RunItem & { readonly place: number };

/** The items of a run by the kind of their sequences, and its distinct pictures. */
interface Laid {
  readonly texts: readonly Placed[];
  readonly pairs: readonly Placed[];
  readonly images: readonly Placed[];
  readonly batch: BatchItems;
  readonly pictures: PictureSet;
}

/** Outputs of any function. */
type Outputs = Partial<OutputsOf<Functions['together']>>;

/**
 * Does one run.
 *
 * @returns for each item [width] of an embedding, [2] logits of a pair or of a statement, [answers] logits of a question, or
 *   [positions, vocabulary] logits of a masked text; each an array of its own
 * @throws MomeError as `Runs.run`
 */
export function doRun(runs: Runs, items: readonly RunItem[], signal: AbortSignal): Promise<Float32Array[]> {
  return runs.job(async () => {
    const laid = lay(items);
    const { texts, pairs, images } = laid;
    const outputs = await outputsOf(runs, { where: callOf(items), signal }, laid);
    const results: Float32Array[] = new Array(items.length);
    const of = (placed: readonly Placed[], head: HeadName) => placed.filter((item) => item.head === head);
    share(results, of(texts, 'embed'), outputs.text_embed);
    share(results, images, outputs.image_embed);
    share(results, of(pairs, 'match'), outputs.itm_logits);
    share(results, of(pairs, 'answer'), outputs.vqa_logits);
    share(results, of(pairs, 'reason'), outputs.nlvr2_logits);
    shareMasks(results, of([...texts, ...pairs], 'fillMask'), outputs.mlm_logits);
    return results;
  });
}

/** The heads of some items, in the order of {@link headNames}. */
export function headsOf(items: readonly { readonly head: HeadName }[]): HeadName[] {
  const own = new Set(items.map(({ head }) => head));
  return headNames.filter((head) => own.has(head));
}

const callOf = (items: readonly RunItem[]): string => headsOf(items).join('+');

/** Runs the smallest function that has the heads of these items: `together`, which has all of them, where there is no smaller one. */
function outputsOf(runs: Runs, call: Call, laid: Laid): Promise<Outputs> {
  const { texts, pairs, images, batch, pictures } = laid;
  const heads = headsOf([...texts, ...pairs, ...images]);
  switch (heads.join('+')) {
    case 'embed':
    case 'match':
    case 'answer':
      return runs.run(call, heads[0] as 'embed' | 'match' | 'answer', batch, pictures, {});
    case 'embed+match':
      return runs.run(call, 'mixed', batch, pictures, {});
    case 'reason':
      return runs.run(call, 'reason', batch, pictures, (layout) => ({ dims: { statements: layout.dims.pairs / 2 } }));
    case 'fillMask':
      return runs.run(call, 'fillMask', batch, pictures, (layout) => maskRows(layout, [...texts, ...pairs]));
    default:
      return runs.runTogether(call, batch, readsOf(laid), pictures);
  }
}

function lay(items: readonly RunItem[]): Laid {
  const placed = items.map((item, place): Placed => {
    const { head, ids, pictures, positions } = item;
    return { head, ids, pictures, positions, place };
  });
  const texts = placed.filter(({ pictures }) => pictures.length === 0);
  const pairs = placed.filter(({ ids, pictures }) => ids !== undefined && pictures.length > 0);
  const images = placed.filter(({ ids }) => ids === undefined);
  const shown = [...pairs, ...images].flatMap(({ pictures }) => pictures.map(({ bytes }) => bytes!));
  const pictures = PictureSet.of(shown);
  let next = 0;
  const picture = () => pictures.items[next++]!.picture;
  const types = [1, 2] as const;
  const batch: BatchItems = {
    texts: texts.map(({ ids }) => ids!),
    // Each picture of a statement is a sequence of its own, with the whole text.
    pairs: pairs.flatMap(({ ids, pictures: views }) =>
      views.map((_, view) => ({ text: ids!, picture: picture(), type: types[view]! })),
    ),
    images: images.map(() => ({ picture: picture() })),
  };
  return { texts, pairs, images, batch, pictures };
}

/** Which sequences each head reads. */
function readsOf({ texts, pairs }: Laid): Reads {
  const reads = { embed: [], match: [], answer: [], reason: [] } as Record<Exclude<HeadName, 'fillMask'>, number[]>;
  const masks = (placed: readonly Placed[]): Masked[] => {
    const masked: Masked[] = [];
    let place = 0;
    for (const { head, pictures, positions } of placed) {
      const sequences = Math.max(1, pictures.length);
      if (head === 'fillMask') masked.push({ place, positions });
      else for (let i = 0; i < sequences; i++) reads[head].push(place + i);
      place += sequences;
    }
    return masked;
  };
  return { ...reads, maskedTexts: masks(texts), maskedPairs: masks(pairs) };
}

/** Gives each item its row of an output. */
function share(results: Float32Array[], items: readonly Placed[], output: Float32Array | undefined): void {
  if (!output || items.length === 0) return;
  const width = output.length / items.length;
  for (const [row, { place }] of items.entries()) results[place] = output.slice(row * width, (row + 1) * width);
}

/** The rows of a batch that hold the masks of its texts, then of its pairs. */
function maskRows(layout: Batch, masked: readonly Placed[]) {
  const first = [...layout.textCls, ...layout.pairTextCls];
  const rows = masked.flatMap(({ positions }, i) => positions.map((position) => first[i]! + position));
  return { dims: { tokens: rows.length }, inputs: { mlm_rows: Int32Array.from(rows) } };
}

/** Gives each item the rows of its masks. */
function shareMasks(results: Float32Array[], masked: readonly Placed[], logits: Float32Array | undefined): void {
  if (!logits || masked.length === 0) return;
  const width = logits.length / masked.reduce((sum, { positions }) => sum + positions.length, 0);
  let row = 0;
  for (const { place, positions } of masked) {
    results[place] = logits.slice(row * width, (row + positions.length) * width);
    row += positions.length;
  }
}
