/**
 * What waits for runs: by priority and by the function that does it, shared out evenly between clients.
 */

/** Of whom nobody waits at a screen goes behind. */
export const priorities = ['interactive', 'bulk'] as const;
export type Priority = (typeof priorities)[number];

/** Functions that do a run: all embeddings and pairs in one, other heads each in runs of their own. */
export const families = ['mixed', 'answer', 'reason', 'fillMask'] as const;
export type Family = (typeof families)[number];

/** What a queue has to know of an item. */
export interface Queued {
  readonly family: Family;
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

  /** Token rows that are done before the last of `rows` more of a client: as clients take turns, others have a like number. */
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
/** Where interactive items fill every run, each such run belongs to the bulk ones. */
const bulkTurn = 8;

/** The queue of one engine. */
export class BatchQueue<T extends Queued> {
  readonly #waiting: Readonly<Record<Priority, Readonly<Record<Family, Fair<T>>>>>;
  /** Runs since bulk items had a part in one, while some waited. */
  #withoutBulk = 0;
  #turn = 0;

  constructor() {
    const each = () => Object.fromEntries(families.map((family) => [family, new Fair<T>()])) as Record<Family, Fair<T>>;
    this.#waiting = { interactive: each(), bulk: each() };
  }

  get size(): number {
    return priorities.reduce((sum, priority) => sum + this.#sizeOf(priority), 0);
  }

  add(item: T): void {
    this.#waiting[item.priority][item.family].add(item);
  }

  delete(item: T): boolean {
    return this.#waiting[item.priority][item.family].delete(item);
  }

  /** Token rows that are done before the last of `rows` more of a client, about. */
  rowsBefore(priority: Priority, client: string, rows: number): number {
    const of = (each: Priority, count: number) =>
      families.reduce((sum, family) => sum + this.#waiting[each][family].rowsBefore(client, count), 0);
    return of(priority, rows) + (priority === 'bulk' ? of('interactive', Number.POSITIVE_INFINITY) : 0);
  }

  /** Whether interactive items alone fill the next run, of at most `budget` token rows. */
  isFull(budget: number): boolean {
    const place = this.#nextPlace('interactive');
    return place !== undefined && this.#waiting.interactive[families[place]!].rows >= budget;
  }

  /** The next item whatever its family, for work that is done one by one. @param priority of these alone */
  shift(priority: Priority): T | undefined {
    const family = this.#nextFamily(priority);
    return family && this.#waiting[priority][family].shift();
  }

  /**
   * Takes the items of the next run: at most `budget` token rows of one family, or a single item that has more. Interactive items go first;
   * bulk ones then fill a part of the run. Where interactive items alone fill the runs, every eighth is left to bulk ones.
   */
  take(budget: number): T[] {
    const isBulkTurn = this.#withoutBulk >= bulkTurn - 1 && this.#sizeOf('bulk') > 0;
    const order: readonly Priority[] = isBulkTurn ? ['bulk', 'interactive'] : ['interactive', 'bulk'];
    const leader = order.find((priority) => this.#sizeOf(priority) > 0);
    if (leader === undefined) return [];
    const family = this.#nextFamily(leader)!;
    const taken: T[] = [];
    let rows = 0;
    const fill = (priority: Priority, most: number) => {
      const queue = this.#waiting[priority][family];
      for (let next = queue.first(); next && (taken.length === 0 || rows + next.rows <= most); next = queue.first()) {
        taken.push(queue.shift()!);
        rows += next.rows;
      }
    };
    fill(leader, budget);
    if (leader === 'interactive') fill('bulk', budget * bulkShare);
    const hasBulk = taken.at(-1)?.priority === 'bulk';
    this.#withoutBulk = hasBulk || this.#sizeOf('bulk') === 0 ? 0 : this.#withoutBulk + 1;
    return taken;
  }

  #sizeOf(priority: Priority): number {
    return families.reduce((sum, family) => sum + this.#waiting[priority][family].size, 0);
  }

  /** Families that wait take turns. */
  #nextFamily(priority: Priority): Family | undefined {
    const place = this.#nextPlace(priority);
    if (place === undefined) return undefined;
    this.#turn = (place + 1) % families.length;
    return families[place];
  }

  #nextPlace(priority: Priority): number | undefined {
    for (let i = 0; i < families.length; i++) {
      const place = (this.#turn + i) % families.length;
      if (this.#waiting[priority][families[place]!].size > 0) return place;
    }
    return undefined;
  }
}
