/**
 * What waits for runs: by priority, shared out evenly between clients. Whatever items are read for, they share runs.
 */

/** Somebody waits for an `interactive` item; a `bulk` item goes behind all of these. */
export const priorities = ['interactive', 'bulk'] as const;
export type Priority = (typeof priorities)[number];

/** What a queue has to know of an item. */
export interface Queued {
  readonly priority: Priority;
  readonly client: string;
  /** Token rows that it takes of a run. */
  readonly rows: number;
}

/** What one client waits for. */
interface Own<T> {
  readonly items: Set<T>;
  rows: number;
}

/** Items of several clients: each client in turn gives one, its oldest. */
class Fair<T extends Queued> {
  readonly #clients = new Map<string, Own<T>>();
  size = 0;
  rows = 0;

  add(item: T): void {
    const own = this.#clients.get(item.client) ?? { items: new Set(), rows: 0 };
    if (own.items.size === 0) this.#clients.set(item.client, own);
    own.items.add(item);
    own.rows += item.rows;
    this.rows += item.rows;
    this.size++;
  }

  delete(item: T): boolean {
    const own = this.#clients.get(item.client);
    if (!own?.items.delete(item)) return false;
    if (own.items.size === 0) this.#clients.delete(item.client);
    own.rows -= item.rows;
    this.rows -= item.rows;
    this.size--;
    return true;
  }

  /** The next item. */
  first(): T | undefined {
    for (const { items } of this.#clients.values()) for (const item of items) return item;
    return undefined;
  }

  /**
   * Token rows that are done before the last of `rows` more rows of a client. Clients take turns: meanwhile each other client has as many
   * rows done, if so many wait.
   */
  rowsBefore(client: string, rows: number): number {
    const own = rows + (this.#clients.get(client)?.rows ?? 0);
    let before = 0;
    for (const [other, waiting] of this.#clients)
      before += other === client ? waiting.rows : Math.min(own, waiting.rows);
    return before;
  }

  /** Takes the next item out; the turn goes to the next client. */
  shift(): T | undefined {
    const item = this.first();
    if (item === undefined) return undefined;
    const own = this.#clients.get(item.client)!;
    this.delete(item);
    if (own.items.size > 0) {
      this.#clients.delete(item.client);
      this.#clients.set(item.client, own);
    }
    return item;
  }
}

/** Share of a run that bulk items may fill up beside interactive ones: more would make those that come next wait longer. */
const bulkShare = 1 / 4;
/** Where interactive items fill every run, one of so many runs is left to bulk items. */
const bulkTurn = 8;

/** The queue of one engine. */
export class BatchQueue<T extends Queued> {
  readonly #waiting: Readonly<Record<Priority, Fair<T>>> = { interactive: new Fair(), bulk: new Fair() };
  /** Runs in a row without a bulk item, while some waited. */
  #withoutBulk = 0;

  get size(): number {
    return this.#waiting.interactive.size + this.#waiting.bulk.size;
  }

  add(item: T): void {
    this.#waiting[item.priority].add(item);
  }

  delete(item: T): boolean {
    return this.#waiting[item.priority].delete(item);
  }

  /** Token rows that are done before the last of `rows` more of a client, about. */
  rowsBefore(priority: Priority, client: string, rows: number): number {
    const before = this.#waiting[priority].rowsBefore(client, rows);
    if (priority === 'interactive') return before;
    return before + this.#waiting.interactive.rowsBefore(client, Number.POSITIVE_INFINITY);
  }

  /** Whether interactive items alone fill the next run, of at most `budget` token rows. */
  isFull(budget: number): boolean {
    return this.#waiting.interactive.rows >= budget;
  }

  /** The next item, for work that is done one by one. @param priority of these alone */
  shift(priority: Priority): T | undefined {
    return this.#waiting[priority].shift();
  }

  /**
   * Takes the items of the next run: at most `budget` token rows, or a single item that has more. Interactive items go first; bulk ones
   * then fill a part of the run. Where interactive items alone fill the runs, every eighth is left to bulk ones.
   */
  take(budget: number): T[] {
    const { interactive, bulk } = this.#waiting;
    const isBulkTurn = this.#withoutBulk >= bulkTurn - 1 && bulk.size > 0;
    const leader = isBulkTurn || interactive.size === 0 ? bulk : interactive;
    const taken: T[] = [];
    let rows = 0;
    const fill = (queue: Fair<T>, most: number) => {
      for (let next = queue.first(); next && (taken.length === 0 || rows + next.rows <= most); next = queue.first()) {
        taken.push(queue.shift()!);
        rows += next.rows;
      }
    };
    fill(leader, budget);
    if (leader === interactive) fill(bulk, budget * bulkShare);
    const hasBulk = taken.at(-1)?.priority === 'bulk';
    this.#withoutBulk = hasBulk || bulk.size === 0 ? 0 : this.#withoutBulk + 1;
    return taken;
  }
}
