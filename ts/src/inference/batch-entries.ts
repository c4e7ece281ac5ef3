/**
 * The items under way in a queue: an item that several calls want is there once, and recent results are kept for calls that want them again.
 */
import { LRUCache } from 'lru-cache';
import { imageTokensOf, type VlmoConfig } from '../architecture/config.ts';
import type { TokenIds } from '../model/batch.ts';
import type { HeadName } from '../model/functions.ts';
import { aboutItem, type ErrorItem } from '../runtime/errors.ts';
import type { CallEnd } from './batch-end.ts';
import { type QueuedPicture, QueuedPictures } from './batch-pictures.ts';
import type { Priority, Queued } from './batch-queue.ts';
import type { RunItem } from './batch-run.ts';
import type { CallStage, CallStages } from './batch-stages.ts';
import type { PictureSource } from './pictures.ts';

/** One item of a call. */
export interface WantedItem {
  readonly head: HeadName;
  readonly ids?: TokenIds;
  readonly images: readonly PictureSource[];
  /** Places of `[MASK]` pieces. */
  readonly positions?: readonly number[];
  /** What the caller calls it. */
  readonly about: ErrorItem;
}

/** Who asks for items, how urgently, and until when. */
export interface Asking {
  readonly where: string;
  readonly priority: Priority;
  readonly client: string;
  readonly end: CallEnd;
  /** The time of `performance.now()` at which the call is over. */
  readonly deadline: number;
  /** Called with each stage of the call when that stage ends. */
  readonly onStage?: ((stage: CallStage) => void) | undefined;
}

/** A call under way. */
export interface Group extends Asking {
  readonly results: Float32Array[];
  left: number;
  readonly entries: Set<Entry>;
  readonly stages: CallStages | undefined;
  readonly resolve: (results: Float32Array[]) => void;
  readonly reject: (error: unknown) => void;
}

/** A call that waits for an entry, as its item at `place`. */
export interface Waiter {
  readonly group: Group;
  readonly place: number;
  readonly about: ErrorItem;
}

/** An item under way, shared by all calls that want the same. */
export interface Entry extends Queued, RunItem {
  readonly pictures: readonly QueuedPicture[];
  priority: Priority;
  client: string;
  readonly key: string | undefined;
  waiters: Waiter[];
  readonly arrived: number;
  /** When its pictures had been prepared. */
  readyAt: number;
  /** Whether its pictures are prepared, or being so, ahead of its run. */
  isAhead: boolean;
  state: 'unprepared' | 'preparing' | 'ready' | 'running' | 'done';
  run?: ActiveRun;
}

/** A run on the engine. */
export interface ActiveRun {
  readonly begun: number;
  /** Items that somebody still wants. */
  wanted: number;
  readonly stop: AbortController;
}

/** Heads whose results are kept: logits of whole vocabularies would drive everything else out. */
const keptHeads: ReadonlySet<HeadName> = new Set(['embed', 'match']);
/** Bytes that an entry of the cache takes beside its numbers and its key. */
const cacheEntryBytes = 128;

export class Entries {
  readonly #imageTokens: number;
  readonly #pictures = new QueuedPictures();
  readonly #underWay = new Map<string, Entry>();
  readonly #cache: LRUCache<string, Float32Array> | undefined;
  cacheHits = 0;
  cacheMisses = 0;

  constructor(config: VlmoConfig, cacheBytes: number) {
    this.#imageTokens = imageTokensOf(config);
    if (cacheBytes > 0)
      this.#cache = new LRUCache({
        maxSize: cacheBytes,
        sizeCalculation: (row, key) => row.byteLength + 2 * key.length + cacheEntryBytes,
      });
  }

  /** A new entry for each item; their pictures are held until `release`. @throws MomeError of a picture */
  async make(asking: Asking, wanted: readonly WantedItem[]): Promise<Entry[]> {
    const entries: Entry[] = [];
    try {
      for (const item of wanted)
        entries.push(this.#entryOf(asking, item, item.images.length === 0 ? [] : await this.#hold(asking, item)));
    } catch (error) {
      for (const entry of entries) this.release(entry);
      throw error;
    }
    return entries;
  }

  async #hold({ where, end }: Asking, { images, about }: WantedItem): Promise<QueuedPicture[]> {
    const pictures: QueuedPicture[] = [];
    try {
      for (const image of images) pictures.push(await this.#pictures.hold(image, end.signal));
    } catch (error) {
      for (const picture of pictures) this.#pictures.release(picture);
      throw aboutItem(error, where, about);
    }
    return pictures;
  }

  #entryOf({ priority, client }: Asking, item: WantedItem, pictures: readonly QueuedPicture[]): Entry {
    const text = item.ids?.length ?? 0;
    const now = performance.now();
    return {
      head: item.head,
      priority,
      client,
      rows: pictures.length * this.#imageTokens + (item.head === 'reason' ? 2 * text : text),
      ids: item.ids,
      pictures,
      positions: item.positions ?? [],
      key: keyOf(item, pictures),
      waiters: [],
      arrived: now,
      readyAt: now,
      isAhead: false,
      state: 'unprepared',
    };
  }

  /** The result of an entry, where the cache has it. */
  cached({ head, key }: Entry): Float32Array | undefined {
    if (!this.#cache || key === undefined || !keptHeads.has(head)) return undefined;
    const cached = this.#cache.get(key);
    cached ? this.cacheHits++ : this.cacheMisses++;
    return cached;
  }

  /** Keeps a result for those who ask again. */
  keep({ head, key }: Entry, result: Float32Array): void {
    if (keptHeads.has(head) && key !== undefined) this.#cache?.set(key, result);
  }

  /** The entry under way of the same item. Without one, others will find this one from now on. */
  sameOrOwn(entry: Entry): Entry {
    if (entry.key === undefined) return entry;
    const same = this.#underWay.get(entry.key);
    if (same === undefined) this.#underWay.set(entry.key, entry);
    return same ?? entry;
  }

  /** Keeps later calls from joining an entry. */
  forget(entry: Entry): void {
    if (entry.key !== undefined && this.#underWay.get(entry.key) === entry) this.#underWay.delete(entry.key);
  }

  /** Gives up the pictures of an entry. */
  release(entry: Entry): void {
    for (const picture of entry.pictures) this.#pictures.release(picture);
  }
}

/** The same text for all items of the same result; undefined where a picture cannot be told from others. */
function keyOf({ head, ids, positions }: WantedItem, pictures: readonly QueuedPicture[]): string | undefined {
  if (pictures.some(({ key }) => key === undefined)) return undefined;
  return [head, ...pictures.map(({ key }) => key), ids?.join(' ') ?? '', positions?.join(' ') ?? ''].join('|');
}
