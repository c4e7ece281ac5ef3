/**
 * From waiting items to runs: pictures are prepared ahead, a run takes what waits when the run before it ends, and everyone who asked for
 * an item gets its result.
 */
import { LRUCache } from 'lru-cache';
import { imageTokensOf, type VlmoConfig } from '../architecture/config.ts';
import type { TokenIds } from '../model/batch.ts';
import { onAbort } from '../runtime/abort.ts';
import { aboutItem, check, type ErrorItem, MomeError, OverloadedError } from '../runtime/errors.ts';
import { type QueuedPicture, QueuedPictures } from './batch-pictures.ts';
import { BatchQueue, type Family, type Priority, priorities, type Queued } from './batch-queue.ts';
import { doRun, type RunItem } from './batch-run.ts';
import type { PictureSource } from './pictures.ts';
import type { Runs } from './runs.ts';

/** One item of a call. */
export interface WantedItem {
  readonly family: Family;
  readonly ids?: TokenIds;
  readonly images: readonly PictureSource[];
  /** Places of `[MASK]` pieces. */
  readonly positions?: readonly number[];
  /** What the caller calls it. */
  readonly about: ErrorItem;
}

/** Who asks for items, and how long. */
export interface Asking {
  readonly where: string;
  readonly priority: Priority;
  readonly client: string;
  /** Fires when nobody wants the items any more; its reason is what the call rejects with. */
  readonly signal: AbortSignal;
}

/** A run that has ended, for whoever measures. */
export interface RunReport {
  readonly family: Family;
  readonly items: number;
  /** Token rows, and those that a run may have. */
  readonly rows: number;
  readonly budget: number;
  readonly milliseconds: number;
  /** Milliseconds that each item has waited, from its arrival to the begin of the run. */
  readonly waited: readonly number[];
  readonly failed: boolean;
}

/** A call under way. */
interface Group extends Asking {
  readonly results: Float32Array[];
  left: number;
  readonly entries: Set<Entry>;
  readonly resolve: (results: Float32Array[]) => void;
  readonly reject: (error: unknown) => void;
}

interface Waiter {
  readonly group: Group;
  readonly place: number;
  readonly about: ErrorItem;
}

/** An item under way: of everyone who wants the same. */
interface Entry extends Queued, RunItem {
  readonly pictures: readonly QueuedPicture[];
  priority: Priority;
  client: string;
  readonly key: string | undefined;
  readonly waiters: Waiter[];
  readonly arrived: number;
  /** Whether its pictures are prepared, or being so, ahead of its run. */
  isAhead: boolean;
  state: 'unprepared' | 'preparing' | 'ready' | 'running' | 'done';
  run?: ActiveRun;
}

interface ActiveRun {
  /** Items that somebody still wants. */
  wanted: number;
  readonly stop: AbortController;
}

export interface SchedulerOptions {
  readonly maxItems: number;
  readonly cacheBytes: number;
  readonly runsAhead: number;
  readonly onRun: ((report: RunReport) => void) | undefined;
}

/** Prepared pictures that may wait for a run, in runs full of pictures. */
const runsPrepared = 3;
/** Bytes that an entry of the cache takes beside its numbers and its key. */
const cacheEntryBytes = 128;
/** Weight of the last run in the measured rate. */
const newest = 0.1;
/** Bounds of the time after which a refused caller may come again, in milliseconds. */
const soonest = 20;
const latest = 60_000;

export class Scheduler {
  readonly #runs: Runs;
  readonly #config: VlmoConfig;
  readonly #options: SchedulerOptions;
  readonly #pictures = new QueuedPictures();
  readonly #unprepared = new BatchQueue<Entry>();
  readonly #ready = new BatchQueue<Entry>();
  readonly #sameItems = new Map<string, Entry>();
  readonly #ahead: Record<Priority, number> = { interactive: 0, bulk: 0 };
  readonly #mostAhead: number;
  readonly #cache: LRUCache<string, Float32Array> | undefined;
  cacheHits = 0;
  cacheMisses = 0;
  #active = 0;
  #taken = 0;
  /** Items and milliseconds of late, the last runs counting most. */
  #itemsLately = 0;
  #timeLately = 0;

  constructor(runs: Runs, config: VlmoConfig, options: SchedulerOptions) {
    this.#runs = runs;
    this.#config = config;
    this.#options = options;
    if (options.cacheBytes > 0)
      this.#cache = new LRUCache({
        maxSize: options.cacheBytes,
        sizeCalculation: (row, key) => row.byteLength + 2 * key.length + cacheEntryBytes,
      });
    this.#mostAhead = Math.max(8, Math.ceil((runsPrepared * runs.rowsPerRun) / imageTokensOf(config)));
  }

  /** Items that were let in and are not done. */
  get taken(): number {
    return this.#taken;
  }

  /** Items that wait for a run, and those whose pictures nobody has begun to prepare. */
  get waiting(): { readonly ready: number; readonly unprepared: number } {
    return { ready: this.#ready.size, unprepared: this.#unprepared.size };
  }

  /** Items done in a second, of late; 0 before the first run. */
  get rate(): number {
    return this.#timeLately === 0 ? 0 : (1000 * this.#itemsLately) / this.#timeLately;
  }

  /**
   * Lets the items of a call in, or refuses all of them.
   *
   * @returns lets them go again
   * @throws MomeError `MOME_OVERLOADED`; `MOME_TOO_LARGE` for more than there is ever room for
   */
  admit(where: string, count: number): () => void {
    const { maxItems } = this.#options;
    check(
      count <= maxItems,
      'MOME_TOO_LARGE',
      `${where}: expected at most ${maxItems} items in one call, got ${count}`,
    );
    if (this.#taken + count > maxItems) {
      const missing = this.#taken + count - maxItems;
      const time = this.rate === 0 ? 1000 : (1000 * missing) / this.rate;
      const retryAfter = Math.round(Math.min(latest, Math.max(soonest, time)));
      throw new OverloadedError(
        `${where}: expected room for ${count} more items, the queue holds ${this.#taken} of ${maxItems}; try again in ${retryAfter} ms`,
        retryAfter,
      );
    }
    this.#taken += count;
    return () => {
      this.#taken -= count;
    };
  }

  /**
   * Queues items, and waits until all are done.
   *
   * @returns the result of each item: see `doRun`
   */
  async all(asking: Asking, wanted: readonly WantedItem[]): Promise<Float32Array[]> {
    if (wanted.length === 0) return [];
    const entries: Entry[] = [];
    try {
      for (const item of wanted) entries.push(await this.#entryOf(asking, item));
    } catch (error) {
      for (const entry of entries) this.#release(entry);
      throw error;
    }
    return new Promise((resolve, reject) => {
      const results: Float32Array[] = new Array(wanted.length);
      let ended = () => {};
      const group: Group = {
        ...asking,
        results,
        left: wanted.length,
        entries: new Set(),
        resolve: (done) => {
          ended();
          resolve(done);
        },
        reject: (error) => {
          ended();
          reject(error);
          this.#leave(group);
        },
      };
      if (asking.signal.aborted) {
        for (const entry of entries) this.#release(entry);
        return reject(asking.signal.reason);
      }
      ended = onAbort(asking.signal, () => group.reject(asking.signal.reason));
      for (const [place, entry] of entries.entries()) this.#join(group, entry, place, wanted[place]!.about);
      if (group.left === 0) group.resolve(results);
      this.#pump();
    });
  }

  /** A new entry for an item; its pictures are held. */
  async #entryOf({ where, priority, client, signal }: Asking, item: WantedItem): Promise<Entry> {
    const pictures: QueuedPicture[] = [];
    try {
      for (const image of item.images) pictures.push(await this.#pictures.hold(image, signal));
    } catch (error) {
      for (const picture of pictures) this.#pictures.release(picture);
      throw aboutItem(error, where, item.about);
    }
    const shown = pictures.length * imageTokensOf(this.#config);
    const text = item.ids?.length ?? 0;
    return {
      family: item.family,
      priority,
      client,
      rows: item.family === 'reason' ? shown + 2 * text : shown + text,
      ids: item.ids,
      pictures,
      positions: item.positions ?? [],
      key: keyOf(item, pictures),
      waiters: [],
      arrived: performance.now(),
      isAhead: false,
      state: 'unprepared',
    };
  }

  /** Lets a call wait for an entry, or for the same one that is under way already. */
  #join(group: Group, fresh: Entry, place: number, about: ErrorItem): void {
    const cached = this.#cached(fresh);
    if (cached) {
      this.#release(fresh);
      group.results[place] = cached;
      group.left--;
      return;
    }
    const same = fresh.key === undefined ? undefined : this.#sameItems.get(fresh.key);
    const entry = same ?? fresh;
    entry.waiters.push({ group, place, about });
    group.entries.add(entry);
    if (same) {
      this.#release(fresh);
      if (same.priority === 'bulk' && group.priority === 'interactive') this.#promote(same, group);
      return;
    }
    if (entry.key !== undefined) this.#sameItems.set(entry.key, entry);
    if (entry.pictures.every(({ bytes }) => bytes !== undefined)) {
      entry.state = 'ready';
      this.#ready.add(entry);
    } else this.#unprepared.add(entry);
  }

  #cached({ key }: Entry): Float32Array | undefined {
    if (!this.#cache || key === undefined) return undefined;
    const cached = this.#cache.get(key);
    cached ? this.cacheHits++ : this.cacheMisses++;
    return cached;
  }

  /** Somebody at a screen wants what a bulk call has brought. */
  #promote(entry: Entry, { priority, client }: Group): void {
    const queue = entry.state === 'unprepared' ? this.#unprepared : entry.state === 'ready' ? this.#ready : undefined;
    const wasQueued = queue?.delete(entry);
    const { isAhead } = entry;
    this.#setAhead(entry, false);
    entry.priority = priority;
    entry.client = client;
    this.#setAhead(entry, isAhead);
    if (wasQueued) queue!.add(entry);
  }

  /** Takes a call off all its entries; what nobody wants any more is dropped. */
  #leave(group: Group): void {
    for (const entry of group.entries) {
      const kept = entry.waiters.filter((waiter) => waiter.group !== group);
      entry.waiters.splice(0, entry.waiters.length, ...kept);
      if (kept.length > 0 || entry.state === 'done') continue;
      if (entry.state === 'running') {
        this.#forget(entry);
        if (entry.run && --entry.run.wanted === 0) entry.run.stop.abort(new Error('nobody wants the results'));
        continue;
      }
      this.#unprepared.delete(entry);
      this.#ready.delete(entry);
      this.#finish(entry);
    }
    group.entries.clear();
    this.#pump();
  }

  /** An entry that is done with: nobody joins it any more, and its pictures go. */
  #finish(entry: Entry): void {
    this.#setAhead(entry, false);
    entry.state = 'done';
    this.#forget(entry);
    this.#release(entry);
  }

  /** Nobody joins an entry any more. */
  #forget(entry: Entry): void {
    if (entry.key !== undefined && this.#sameItems.get(entry.key) === entry) this.#sameItems.delete(entry.key);
  }

  #release(entry: Entry): void {
    for (const picture of entry.pictures) this.#pictures.release(picture);
  }

  #fail(entry: Entry, errorFor: (about: ErrorItem, where: string) => unknown): void {
    if (entry.state === 'done') return;
    const waiters = entry.waiters.splice(0);
    this.#finish(entry);
    for (const { group, about } of waiters) group.reject(errorFor(about, group.where));
  }

  /** Starts what may start now: preparations, so many ahead of the runs, and the next run. */
  #pump(): void {
    for (const priority of priorities) {
      while (this.#ahead[priority] < this.#mostAhead) {
        const entry = this.#unprepared.shift(priority);
        if (!entry) break;
        this.#prepare(entry);
      }
    }
    while (this.#active <= this.#options.runsAhead && this.#ready.size > 0) {
      const budget = this.#runs.rowsPerRun;
      void this.#run(this.#ready.take(budget), budget);
    }
  }

  /** Counts an entry among those whose pictures are prepared ahead of their run, or no longer. */
  #setAhead(entry: Entry, isAhead: boolean): void {
    if (entry.isAhead === isAhead) return;
    entry.isAhead = isAhead;
    this.#ahead[entry.priority] += isAhead ? 1 : -1;
  }

  #prepare(entry: Entry): void {
    entry.state = 'preparing';
    this.#setAhead(entry, true);
    const call = entry.waiters[0]!.group;
    const done = entry.pictures.map((picture) => picture.prepare(this.#config.imageSize, call));
    Promise.all(done).then(
      () => {
        if (entry.state !== 'preparing') return;
        entry.state = 'ready';
        this.#ready.add(entry);
        this.#pump();
      },
      (error: unknown) => {
        this.#fail(entry, (about, where) => aboutItem(error, where, about));
        this.#pump();
      },
    );
  }

  async #run(entries: readonly Entry[], budget: number): Promise<void> {
    this.#active++;
    const begun = performance.now();
    const run: ActiveRun = { wanted: entries.length, stop: new AbortController() };
    for (const entry of entries) {
      this.#setAhead(entry, false);
      entry.state = 'running';
      entry.run = run;
    }
    let failed = false;
    try {
      const results = await doRun(this.#runs, entries[0]!.family, entries, run.stop.signal);
      // The next run begins before results are handed out: the engine waits for nobody.
      this.#active--;
      this.#measure(entries.length, performance.now() - begun);
      this.#pump();
      for (const [i, entry] of entries.entries()) this.#deliver(entry, results[i]!);
    } catch (error) {
      failed = true;
      this.#active--;
      for (const entry of entries) this.#fail(entry, () => error);
      this.#pump();
    }
    this.#options.onRun?.({
      family: entries[0]!.family,
      items: entries.length,
      rows: entries.reduce((sum, { rows }) => sum + rows, 0),
      budget,
      milliseconds: performance.now() - begun,
      waited: entries.map(({ arrived }) => begun - arrived),
      failed,
    });
  }

  #deliver(entry: Entry, result: Float32Array): void {
    const waiters = entry.waiters.splice(0);
    this.#finish(entry);
    // Logits of whole vocabularies would drive everything else out.
    if (entry.family === 'mixed' && entry.key !== undefined) this.#cache?.set(entry.key, result);
    for (const { group, place } of waiters) {
      group.results[place] = result;
      if (--group.left === 0) group.resolve(group.results);
    }
  }

  #measure(items: number, milliseconds: number): void {
    this.#itemsLately += items - newest * this.#itemsLately;
    this.#timeLately += milliseconds - newest * this.#timeLately;
  }
}

/** What two items of the same result share; undefined where that is not known. */
function keyOf({ family, ids, positions }: WantedItem, pictures: readonly QueuedPicture[]): string | undefined {
  if (pictures.some(({ key }) => key === undefined)) return undefined;
  return [family, ...pictures.map(({ key }) => key), ids?.join(' ') ?? '', positions?.join(' ') ?? ''].join('|');
}

/** The error of a call whose time is up. */
export const deadlinePassed = (where: string, timeout: number): MomeError =>
  new MomeError('MOME_DEADLINE', `${where}: expected to be done within ${timeout} ms, was not`);
