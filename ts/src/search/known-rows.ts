/** Embeddings that need not be made again, found by the path or by the contents of a picture. */
import { forEachPaced } from '../runtime/pace.ts';
import type { IndexedImage } from './content.ts';
import type { IndexContents } from './index-file.ts';
import type { EmbeddedImage } from './journal.ts';

/** Maps that a {@link LargeMap} is made of. */
const parts = 256;

/** A map from texts to numbers that never holds the event loop to grow: it is many small ones. */
export class LargeMap {
  readonly #parts = Array.from({ length: parts }, () => new Map<string, number>());

  get(key: string): number | undefined {
    return this.#partOf(key).get(key);
  }

  set(key: string, value: number): void {
    this.#partOf(key).set(key, value);
  }

  has(key: string): boolean {
    return this.#partOf(key).has(key);
  }

  #partOf(key: string): Map<string, number> {
    // Paths of one folder differ near their ends, and so do hashes.
    let hash = key.length;
    for (let i = Math.max(0, key.length - 12); i < key.length; i++) hash = (hash * 31 + key.charCodeAt(i)) | 0;
    return this.#parts[hash & (parts - 1)]!;
  }
}

/** Rows of an earlier index, and behind them those of journals. */
export class KnownRows {
  readonly #previous: IndexContents | undefined;
  readonly #journal: EmbeddedImage[] = [];
  readonly #width: number;
  readonly #byPath = new LargeMap();
  #byHash: Promise<LargeMap> | undefined;

  private constructor(previous: IndexContents | undefined, width: number) {
    this.#previous = previous;
    this.#width = width;
  }

  static async of(previous: IndexContents | undefined, width: number): Promise<KnownRows> {
    const known = new KnownRows(previous, width);
    await forEachPaced(previous?.items ?? [], ({ path }, row) => known.#byPath.set(path, row));
    return known;
  }

  /** Rows of the earlier index. */
  get previousCount(): number {
    return this.#previous?.items.length ?? 0;
  }

  /** Rows of the earlier index, not to be given away. */
  get previousRows(): Float32Array {
    return this.#previous?.embeddings ?? new Float32Array(0);
  }

  /** Adds a row of a journal. All are added before the first row is looked for by its contents. */
  add(image: EmbeddedImage): void {
    const row = this.previousCount + this.#journal.length;
    this.#journal.push(image);
    if (!this.#byPath.has(image.item.path)) this.#byPath.set(image.item.path, row);
  }

  byPath(path: string): number | undefined {
    return this.#byPath.get(path);
  }

  async byHash(hash: string): Promise<number | undefined> {
    this.#byHash ??= this.#mapHashes();
    return (await this.#byHash).get(hash);
  }

  item(row: number): IndexedImage {
    return this.#previous?.items[row] ?? this.#journal[row - this.previousCount]!.item;
  }

  /** [width] values, not to be given away. */
  embedding(row: number): Float32Array {
    if (row >= this.previousCount) return this.#journal[row - this.previousCount]!.embedding;
    return this.#previous!.embeddings.subarray(row * this.#width, (row + 1) * this.#width);
  }

  async #mapHashes(): Promise<LargeMap> {
    const map = new LargeMap();
    const add = ({ hash }: IndexedImage, row: number) => {
      if (hash !== '') map.set(hash, row);
    };
    await forEachPaced(this.#previous?.items ?? [], add);
    await forEachPaced(this.#journal, ({ item }, i) => add(item, this.previousCount + i));
    return map;
  }
}
