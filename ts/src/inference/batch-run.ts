/**
 * One run of queued items of one family, and the result of each.
 */
import type { Batch, BatchItems, TokenIds } from '../model/batch.ts';
import type { OutputsOf } from '../model/functions.ts';
import type { Family } from './batch-queue.ts';
import { PictureSet } from './pictures.ts';
import type { Functions } from './programs.ts';
import type { Call, Runs } from './runs.ts';

/** A prepared item. Without text it is a picture to embed, without picture a text; with both it is a pair. */
export interface RunItem {
  readonly ids: TokenIds | undefined;
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

/**
 * Does one run.
 *
 * @returns for each item [width] of an embedding, [2] logits of a pair or of a statement, [answers] logits of a question, or
 *   [positions, vocabulary] logits of a masked text; each an array of its own
 * @throws MomeError as `Runs.run`
 */
export function doRun(
  runs: Runs,
  family: Family,
  items: readonly RunItem[],
  signal: AbortSignal,
): Promise<Float32Array[]> {
  return runs.job(() => runOf(runs, family, items, signal));
}

async function runOf(
  runs: Runs,
  family: Family,
  items: readonly RunItem[],
  signal: AbortSignal,
): Promise<Float32Array[]> {
  const call: Call = { where: family, signal };
  const results: Float32Array[] = new Array(items.length);
  const laid = lay(items, family === 'reason' ? 2 : 1);
  const { texts, pairs, images, batch, pictures } = laid;
  switch (family) {
    case 'mixed': {
      const name = pairs.length === 0 ? 'embed' : texts.length + images.length === 0 ? 'match' : 'mixed';
      const outputs: Partial<OutputsOf<Functions['mixed']>> = await runs.run(call, name, batch, pictures, {});
      share(results, texts, outputs.text_embed);
      share(results, images, outputs.image_embed);
      share(results, pairs, outputs.itm_logits);
      return results;
    }
    case 'answer': {
      const { vqa_logits } = await runs.run(call, 'answer', batch, pictures, {});
      share(results, pairs, vqa_logits);
      return results;
    }
    case 'reason': {
      const statements = (layout: Batch) => ({ dims: { statements: layout.dims.pairs / 2 } });
      const { nlvr2_logits } = await runs.run(call, 'reason', batch, pictures, statements);
      for (const [i, { place }] of pairs.entries()) results[place] = nlvr2_logits!.slice(2 * i, 2 * i + 2);
      return results;
    }
    case 'fillMask': {
      const masked = [...texts, ...pairs];
      const { mlm_logits } = await runs.run(call, 'fillMask', batch, pictures, (layout) => maskRows(layout, masked));
      shareMasks(results, masked, mlm_logits!);
      return results;
    }
    default:
      return family satisfies never;
  }
}

/** @param views pictures that each pair shows, one after the other, each with the whole text */
function lay(items: readonly RunItem[], views: 1 | 2): Laid {
  const placed = items.map(({ ids, pictures, positions }, place): Placed => ({ ids, pictures, positions, place }));
  const texts = placed.filter(({ pictures }) => pictures.length === 0);
  const pairs = placed.filter(({ ids, pictures }) => ids !== undefined && pictures.length > 0);
  const images = placed.filter(({ ids }) => ids === undefined);
  const shown = [...pairs, ...images].flatMap(({ pictures }) => pictures.map(({ bytes }) => bytes!));
  const pictures = PictureSet.of(shown);
  const types = [1, 2] as const;
  const batch: BatchItems = {
    texts: texts.map(({ ids }) => ids!),
    pairs: pairs.flatMap(({ ids }, pair) =>
      types
        .slice(0, views)
        .map((type, view) => ({ text: ids!, picture: pictures.items[views * pair + view]!.picture, type })),
    ),
    images: images.map((_, i) => pictures.items[views * pairs.length + i]!),
  };
  return { texts, pairs, images, batch, pictures };
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
function shareMasks(results: Float32Array[], masked: readonly Placed[], logits: Float32Array): void {
  const width = logits.length / masked.reduce((sum, { positions }) => sum + positions.length, 0);
  let row = 0;
  for (const { place, positions } of masked) {
    results[place] = logits.slice(row * width, (row + positions.length) * width);
    row += positions.length;
  }
}
