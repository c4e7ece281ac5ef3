/** One measurement of a table: what it is asked for, and what it has so far. */

/** Why a measurement ended early, by no fault of its own. */
export class Interrupted extends Error {
  constructor(by) {
    super(`interrupted by ${by}`);
    this.by = by;
  }
}

/** A signal that fires on the first SIGINT or SIGTERM. A second one ends the process at once, as it does without this. */
export function interruption() {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => controller.abort(new Interrupted(name)));
  return controller.signal;
}

/**
 * The rows that are meant: those of exactly that name, else those whose name holds the text.
 *
 * @param {Readonly<Record<string, readonly string[]>>} tables names of rows by table
 * @param {readonly string[]} asked
 * @returns {Record<string, string[]>} the tables that have such rows, and these
 * @throws {Error} a text that no row has in its name, with all names
 */
export function selectRows(tables, asked) {
  const all = Object.values(tables).flat();
  const meant = new Set();
  for (const text of asked) {
    const exact = all.filter((name) => name === text);
    const found = exact.length > 0 ? exact : all.filter((name) => name.toLowerCase().includes(text.toLowerCase()));
    if (found.length === 0) {
      const lists = Object.entries(tables).map(([table, names]) => `${table}:\n  ${names.join('\n  ')}`);
      throw new Error(`bench: expected the name of a row, got "${text}". There are\n${lists.join('\n')}`);
    }
    for (const name of found) meant.add(name);
  }
  const chosen = Object.entries(tables).map(([table, names]) => [table, names.filter((name) => meant.has(name))]);
  return Object.fromEntries(chosen.filter(([, names]) => names.length > 0));
}

/**
 * What a table is given, and where it leaves its rows: they stay when it fails later.
 *
 * `folder` of the model, `seed`, `rounds`, `threads`, `target`, `quick` (settings of peers are not tried, nothing is profiled), `torch`
 * (whether PyTorch is a peer), `log`.
 */
export class TableRun {
  rows = [];
  absent = [];
  versions = {};
  #names;
  #onRow;

  /**
   * `names` of the rows to measure; `onRow` is called after each.
   *
   * @param {Record<string, any> & { names: readonly string[], onRow?: (run: TableRun) => void }} given
   */
  constructor({ names, onRow, ...given }) {
    this.#names = new Set(names);
    this.#onRow = onRow;
    Object.assign(this, given);
  }

  /** Whether a row is to be measured now. @throws {Interrupted} */
  wants(...names) {
    const wanted = names.some((name) => this.#names.has(name));
    if (wanted) this.signal?.throwIfAborted();
    return wanted;
  }

  /** Keeps rows that are to be measured. */
  add(...rows) {
    for (const row of rows) {
      if (!this.#names.has(row.name)) continue;
      this.rows.push(row);
      this.log(describe(row));
    }
    this.#onRow?.(this);
  }

  /** Goes on without a peer that failed. @returns true, for `alternate` */
  lose(peer, row, problem) {
    this.log(`${peer} failed: ${problem.stack}`);
    this.absent.push(`${peer} of "${row}": it failed: ${problem.message.split('\n')[0]}`);
    return true;
  }

  /** The result of a peer's part, undefined when it fails. */
  async attempt(peer, row, part) {
    try {
      return await part();
    } catch (problem) {
      this.signal?.throwIfAborted();
      this.lose(peer, row, problem);
      return undefined;
    }
  }

  /** How many of the names have a row. */
  get measured() {
    return new Set(this.rows.map(({ name }) => name)).size;
  }

  get asked() {
    return this.#names.size;
  }
}

/** A row in a few words, for whoever watches: it stays on the screen whatever becomes of the run. */
function describe({ name, dtype, ours, peers, bytes }) {
  if (bytes) return `${name}, ${dtype}: ${(bytes.peak / 2 ** 20).toFixed(0)} MiB`;
  const ratios = Object.entries(peers).map(([peer, { ratio }]) => `, ${ratio.toFixed(2)} x ${peer}`);
  return `${name}, ${dtype}: ${Number((1000 * ours.seconds.median).toPrecision(3))} ms${ratios.join('')}`;
}
