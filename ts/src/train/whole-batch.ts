/**
 * The batch of a step as every process sees it: the texts of all, the pictures of its own part, and those that it fetched from others.
 */
import type { TrainingBatch } from './objectives/step.ts';
import type { ProcessGroup } from './process-group.ts';

/** Items [begin, end) of a batch. */
export interface Range {
  readonly begin: number;
  readonly end: number;
}

export class WholeBatch {
  /** The texts of all processes, in the order of their ranks. */
  readonly texts: readonly Int32Array[];
  readonly groups: Int32Array | undefined;
  /** Pictures of all processes. */
  readonly pictures: number;
  /** This process's part of the batch, and its place in the whole one. */
  readonly own: TrainingBatch;
  /** The texts of each process. */
  readonly ranges: readonly Range[];
  readonly ownTexts: Range;
  readonly ownPictures: Range;
  readonly #group: ProcessGroup;
  readonly #pictureBytes: number;
  readonly #microBatch: number;
  /** First picture of each process, and at the end their number. */
  readonly #firstPictures: readonly number[];
  readonly #fetched = new Map<number, Uint8Array>();

  private constructor(
    group: ProcessGroup,
    own: TrainingBatch,
    parts: readonly Part[],
    pictureBytes: number,
    microBatch: number,
  ) {
    const firstPictures = [0];
    for (const { pictures } of parts) firstPictures.push(firstPictures.at(-1)! + pictures);
    this.#group = group;
    this.#pictureBytes = pictureBytes;
    this.#microBatch = microBatch;
    this.#firstPictures = firstPictures;
    this.own = own;
    this.texts = parts.flatMap(({ texts }) => texts);
    this.groups = own.groups && Int32Array.from(parts.flatMap(({ groups }) => [...(groups ?? [])]));
    this.pictures = firstPictures.at(-1)!;
    let end = 0;
    this.ranges = parts.map(({ texts }) => {
      end += texts.length;
      return { begin: end - texts.length, end };
    });
    this.ownTexts = this.ranges[group.rank]!;
    this.ownPictures = { begin: firstPictures[group.rank]!, end: firstPictures[group.rank + 1]! };
  }

  /**
   * Puts the parts of all processes together; each calls this with its own.
   *
   * @param pictureBytes bytes of one picture
   * @param microBatch items that one run reads at most
   */
  static async of(
    group: ProcessGroup,
    own: TrainingBatch,
    pictureBytes: number,
    microBatch = Number.POSITIVE_INFINITY,
  ): Promise<WholeBatch> {
    const pictures = (own.bytes?.length ?? 0) / pictureBytes;
    const part: Part = { texts: own.texts, groups: own.groups, pictures };
    const parts = group.size === 1 ? [part] : (await group.allGather(encode(part))).map(decode);
    return new WholeBatch(group, own, parts, pictureBytes, microBatch);
  }

  /** Pixels of pictures of the whole batch, one after the other: own ones, or fetched. */
  pixels(wanted: readonly number[]): Uint8Array {
    const { begin } = this.ownPictures;
    const size = this.#pictureBytes;
    const own = this.own.bytes ?? new Uint8Array(0);
    const ownPixels = (picture: number, count = 1) =>
      own.subarray((picture - begin) * size, (picture - begin + count) * size);
    const first = wanted[0] ?? 0;
    const isStretch = wanted.every((picture, i) => this.#isOwn(picture) && picture === first + i);
    if (isStretch) return ownPixels(first, wanted.length);
    const pixels = new Uint8Array(wanted.length * size);
    for (const [place, picture] of wanted.entries())
      pixels.set(this.#isOwn(picture) ? ownPixels(picture) : this.#fetched.get(picture)!, place * size);
    return pixels;
  }

  /**
   * Gets pictures from the processes that have them. All processes call this with the same lists.
   *
   * @param wanted for each process, the pictures that it needs
   */
  async fetch(wanted: readonly (readonly number[])[]): Promise<void> {
    const { rank, size } = this.#group;
    if (size === 1) return;
    const from = (owner: number, reader: number) =>
      owner === reader ? [] : [...new Set(wanted[reader])].filter((picture) => this.#ownerOf(picture) === owner);
    const ranks = Array.from({ length: size }, (_, i) => i);
    const parcels = await this.#group.exchange(ranks.map((reader) => this.pixels(from(rank, reader))));
    for (const [owner, parcel] of parcels.entries())
      for (const [place, picture] of from(owner, rank).entries())
        this.#fetched.set(picture, parcel.subarray(place * this.#pictureBytes, (place + 1) * this.#pictureBytes));
  }

  /** The part of `count` items that a process reads where they are not tied to its own pictures. */
  evenPart(count: number, rank: number): Range {
    const { size } = this.#group;
    return { begin: Math.floor((count * rank) / size), end: Math.floor((count * (rank + 1)) / size) };
  }

  /** Cut into the micro-batches that are run one after the other. */
  microBatches({ begin, end }: Range): Range[] {
    const ranges: Range[] = [];
    for (let at = begin; at < end; at += this.#microBatch)
      ranges.push({ begin: at, end: Math.min(end, at + this.#microBatch) });
    return ranges;
  }

  #isOwn(picture: number): boolean {
    return picture >= this.ownPictures.begin && picture < this.ownPictures.end;
  }

  #ownerOf(picture: number): number {
    return this.#firstPictures.findLastIndex((first) => first <= picture);
  }
}

/** What every process knows of each other's part. */
interface Part {
  readonly texts: readonly Int32Array[];
  readonly groups: Int32Array | undefined;
  readonly pictures: number;
}

/** As whole numbers: how many texts, pictures and groups there are, the lengths of the texts, their ids, and the groups. */
function encode({ texts, groups, pictures }: Part): Uint8Array {
  const count = texts.reduce((sum, { length }) => sum + length, 0);
  const numbers = new Int32Array(3 + texts.length + count + (groups?.length ?? 0));
  numbers.set([texts.length, pictures, groups?.length ?? 0, ...texts.map(({ length }) => length)]);
  let at = 3 + texts.length;
  for (const each of groups ? [...texts, groups] : texts) {
    numbers.set(each, at);
    at += each.length;
  }
  return new Uint8Array(numbers.buffer);
}

function decode(bytes: Uint8Array): Part {
  const numbers = new Int32Array(bytes.slice().buffer);
  const [count, pictures, groupCount] = numbers as unknown as [number, number, number];
  let at = 3 + count;
  const texts = Array.from(numbers.subarray(3, 3 + count), (length) => {
    at += length;
    return numbers.slice(at - length, at);
  });
  return { texts, pictures, groups: groupCount > 0 ? numbers.slice(at, at + groupCount) : undefined };
}
