/**
 * From waiting items to runs: pictures are prepared ahead, a run takes what waits when the run before it ends, and everyone who asked for
 * an item gets its result.
 */
import { imageTokensOf, type VlmoConfig } from '../architecture/config.ts';
import type { HeadName } from '../model/functions.ts';
import { aboutItem, type ErrorItem } from '../runtime/errors.ts';
import { type ActiveRun, type Asking, Entries, type Entry, type Group, type WantedItem } from './batch-entries.ts';
import { BatchQueue, type Priority, priorities } from './batch-queue.ts';
import { Room } from './batch-room.ts';
import { doRun, headsOf } from './batch-run.ts';
import { CallStages } from './batch-stages.ts';
import type { Runs } from './runs.ts';

/** A run that has ended, for whoever measures. */
export interface RunReport {
  /** What its items were read for. */
  readonly heads: readonly HeadName[];
  readonly items: number;
  /** Token rows, and those that a run may have. */
  readonly rows: number;
  readonly budget: number;
  readonly milliseconds: number;
  /** Milliseconds that each item has waited, from its arrival to the begin of the run. */
  readonly waited: readonly number[];
  readonly failed: boolean;
}

export interface SchedulerOptions {
  readonly maxItems: number;
  readonly cacheBytes: number;
  readonly runsAhead: number;
  readonly onRun: ((report: RunReport) => void) | undefined;
  readonly maxPixels?: number | undefined;
}

/** Prepared pictures that may wait for a run, in runs full of pictures. */
const runsPrepared = 3;

export class Scheduler {
  readonly room: Room;
  readonly entries: Entries;
  readonly #runs: Runs;
  readonly #imageSize: number;
  readonly #options: SchedulerOptions;
  readonly #unprepared = new BatchQueue<Entry>();
  readonly #ready = new BatchQueue<Entry>();
  readonly #ahead: Record<Priority, number> = { interactive: 0, bulk: 0 };
  readonly #mostAhead: number;
  #active = 0;
  /** When the last run ended. */
  #ended = 0;

  constructor(runs: Runs, config: VlmoConfig, options: SchedulerOptions) {
    this.room = new Room(options.maxItems);
    this.entries = new Entries(config, options.cacheBytes);
    this.#runs = runs;
    this.#imageSize = config.imageSize;
    this.#options = options;
    this.#mostAhead = Math.max(8, Math.ceil((runsPrepared * runs.rowsPerRun) / imageTokensOf(config)));
  }

  /** Items that wait for a run, and those whose pictures nobody has begun to prepare. */
  get waiting(): { readonly ready: number; readonly unprepared: number } {
    return { ready: this.#ready.size, unprepared: this.#unprepared.size };
  }

  /**
   * Queues items, and waits until all are done.
   *
   * @returns the result of each item: see `doRun`
   */
  async all(asking: Asking, wanted: readonly WantedItem[]): Promise<Float32Array[]> {
    if (wanted.length === 0) return [];
    const entries = await this.entries.make(asking, wanted);
    const { end } = asking;
    try {
      end.throwIfOver();
      this.#requireTime(asking, entries);
    } catch (error) {
      for (const entry of entries) this.entries.release(entry);
      throw error;
    }
    return new Promise((resolve, reject) => {
      const results: Float32Array[] = new Array(wanted.length);
      const ended = end.onEnd(() => group.reject(end.reason));
      const group: Group = {
        ...asking,
        results,
        left: wanted.length,
        entries: new Set(),
        stages: asking.onStage && new CallStages(asking.onStage),
        resolve: (done) => {
          ended();
          resolve(done);
        },
        reject: (error) => {
          ended();
          reject(error);
          group.stages?.broke([...group.entries], error);
          this.#leave(group);
        },
      };
      for (const [place, entry] of entries.entries()) this.#join(group, entry, place, wanted[place]!.about);
      if (group.left === 0) group.resolve(results);
      this.#pump();
    });
  }

  /** @throws MomeError `MOME_OVERLOADED` for a call that what waits before it would keep beyond its time */
  #requireTime({ where, priority, client, deadline }: Asking, entries: readonly Entry[]): void {
    if (deadline === Number.POSITIVE_INFINITY) return;
    const rows = entries.reduce((sum, entry) => sum + entry.rows, 0);
    const before = [this.#ready, this.#unprepared].map((queue) => queue.rowsBefore(priority, client, rows));
    this.room.requireTime(where, rows + before[0]! + before[1]!, deadline - performance.now());
  }

  /** Lets a call wait for an entry, or for the same one that is under way already. */
  #join(group: Group, fresh: Entry, place: number, about: ErrorItem): void {
    const cached = this.entries.cached(fresh);
    if (cached) {
      this.entries.release(fresh);
      group.results[place] = cached;
      group.left--;
      return;
    }
    const entry = this.entries.sameOrOwn(fresh);
    entry.waiters.push({ group, place, about });
    group.entries.add(entry);
    if (entry !== fresh) {
      this.entries.release(fresh);
      if (entry.priority === 'bulk' && group.priority === 'interactive') this.#promote(entry, group);
    } else if (entry.pictures.every(({ bytes }) => bytes !== undefined)) {
      entry.state = 'ready';
      this.#ready.add(entry);
    } else this.#unprepared.add(entry);
    group.stages?.joined(entry);
  }

  /** Makes a bulk entry interactive, because an interactive call wants the same item. */
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

  /** Removes a call from all its entries, and drops entries that no other call waits for. */
  #leave(group: Group): void {
    for (const entry of group.entries) {
      entry.waiters = entry.waiters.filter((waiter) => waiter.group !== group);
      if (entry.waiters.length > 0 || entry.state === 'done') continue;
      if (entry.state === 'running') {
        this.entries.forget(entry);
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

  /** Ends an entry: no later call joins it, and its pictures are given up. */
  #finish(entry: Entry): void {
    this.#setAhead(entry, false);
    entry.state = 'done';
    this.entries.forget(entry);
    this.entries.release(entry);
  }

  #fail(entry: Entry, errorFor: (about: ErrorItem, where: string) => unknown): void {
    if (entry.state === 'done') return;
    const { waiters } = entry;
    entry.waiters = [];
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
    while (this.#mayRun) void this.#run(this.#ready.take(this.#runs.rowsPerRun));
  }

  /**
   * Whether the next run may be handed over. Where interactive items alone fill it, that is done while the run before it goes on: the engine
   * then waits for nothing, and nobody goes first who would not have.
   */
  get #mayRun(): boolean {
    const { runsAhead } = this.#options;
    if (this.#active <= runsAhead) return this.#ready.size > 0;
    return this.#active === runsAhead + 1 && this.#ready.isFull(this.#runs.rowsPerRun);
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
    for (const { group } of entry.waiters) group.stages?.decoding();
    const call = entry.waiters[0]!.group;
    const done = entry.pictures.map((picture) => picture.prepare(this.#imageSize, call, this.#options.maxPixels));
    Promise.all(done).then(
      () => {
        if (entry.state !== 'preparing') return;
        entry.state = 'ready';
        entry.readyAt = performance.now();
        for (const { group } of entry.waiters) group.stages?.decoded();
        this.#ready.add(entry);
        this.#pump();
      },
      (error: unknown) => {
        this.#fail(entry, (about, where) => aboutItem(error, where, about));
        this.#pump();
      },
    );
  }

  async #run(entries: readonly Entry[]): Promise<void> {
    this.#active++;
    const begun = performance.now();
    const run: ActiveRun = { begun, wanted: entries.length, stop: new AbortController() };
    for (const entry of entries) {
      this.#setAhead(entry, false);
      entry.state = 'running';
      entry.run = run;
    }
    const done = await doRun(this.#runs, entries, run.stop.signal).then(
      (results) => ({ results }),
      (error: unknown) => ({ error }),
    );
    // Of a run that was handed over ahead the time begins where that of the run before it ended.
    const now = performance.now();
    const milliseconds = now - Math.max(begun, this.#ended);
    this.#ended = now;
    this.#active--;
    const rows = entries.reduce((sum, entry) => sum + entry.rows, 0);
    const report: RunReport = {
      heads: headsOf(entries),
      items: entries.length,
      rows,
      budget: this.#runs.rowsPerRun,
      milliseconds,
      waited: entries.map(({ arrived }) => begun - arrived),
      failed: 'error' in done,
    };
    if ('results' in done) {
      this.room.measure(entries.length, rows, this.#runs.rowsPerRun, milliseconds);
      // The next run begins before results are handed out: the engine waits for nobody.
      this.#pump();
      tellRun(entries, now, report);
      for (const [i, entry] of entries.entries()) this.#deliver(entry, done.results[i]!);
    } else {
      tellRun(entries, now, report, done.error);
      for (const entry of entries) this.#fail(entry, () => done.error);
      this.#pump();
    }
    this.#options.onRun?.(report);
  }

  #deliver(entry: Entry, result: Float32Array): void {
    const { waiters } = entry;
    entry.waiters = [];
    this.#finish(entry);
    this.entries.keep(entry, result);
    for (const { group, place } of waiters) {
      group.results[place] = result;
      if (--group.left === 0) group.resolve(group.results);
    }
  }
}

/** Tells the calls that a run has served, those that are traced. */
function tellRun(entries: readonly Entry[], ended: number, report: RunReport, error?: unknown): void {
  const own = new Map<CallStages, Entry[]>();
  for (const entry of entries)
    for (const { group } of entry.waiters) {
      if (!group.stages) continue;
      const items = own.get(group.stages) ?? [];
      own.set(group.stages, items);
      if (items.at(-1) !== entry) items.push(entry);
    }
  for (const [stages, items] of own) stages.ran(items, ended - report.milliseconds, ended, report, error);
}
