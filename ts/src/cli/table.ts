/** Plain tables for people, as wide as the terminal at most. */
import Table from 'cli-table3';
import cliTruncate from 'cli-truncate';
import stringWidth from 'string-width';
import { printableLines } from '../runtime/printable.ts';
import { printSafe } from './output.ts';
import { outputColumns, styled } from './terminal.ts';

/** Columns of the terminal between two columns of a table. */
const gap = 2;
/** A column that gives way keeps so many columns of the terminal as long as others can be left out, and then so many. */
const comfortable = 20;
const least = 8;

/** How a table gives way to a narrow terminal. */
export interface TableOptions {
  /** Columns of the terminal; default: no bound. */
  readonly width?: number;
  /** Head of the column whose cells are shortened in the middle, as names of files are. */
  readonly shorten?: string;
  /** Head of the column whose cells go on in the next line, as sentences do. */
  readonly wrap?: string;
  /** Heads of columns that are left out, the first one first. */
  readonly leaveOut?: readonly string[];
  /** Whether the head is printed in bold. */
  readonly isStyled?: boolean;
}

type Cell = string | number;

/**
 * Rows under a head, without lines between them. A cell may have several lines: names of files are passed through `printable` before.
 *
 * @returns text without control characters but for the style of the head
 */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[], options: TableOptions = {}): string {
  const cells = cellsOf(head, rows);
  const { columns, room, flexible } = layoutOf(head, cells, options);
  const isShortened = options.shorten !== undefined && head[flexible] === options.shorten;
  const result = new Table({
    style: { head: [], border: [], compact: true, 'padding-left': 0, 'padding-right': 0 },
    chars: {
      top: '',
      'top-mid': '',
      'top-left': '',
      'top-right': '',
      bottom: '',
      'bottom-mid': '',
      'bottom-left': '',
      'bottom-right': '',
      left: '',
      'left-mid': '',
      mid: '',
      'mid-mid': '',
      right: '',
      'right-mid': '',
      middle: ' '.repeat(gap),
    },
    wordWrap: true,
    ...(room !== undefined && { colWidths: columns.map((column) => (column === flexible ? room : null)) }),
  });
  for (const [i, row] of cells.entries())
    result.push(
      columns.map((column) => {
        const cell = row[column] ?? '';
        const text = room !== undefined && isShortened && column === flexible ? shortened(cell, room) : cell;
        return i === 0 && options.isStyled ? styled('bold', text) : text;
      }),
    );
  return result.toString().replace(/ +$/gm, '');
}

/** Prints a table as wide as the terminal. @returns the heads of the columns that it has */
export function printTable(
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
  options: TableOptions = {},
): readonly string[] {
  const shown = { width: outputColumns(), isStyled: true, ...options };
  printSafe(table(head, rows, shown));
  return layoutOf(head, cellsOf(head, rows), shown).columns.map((column) => head[column]!);
}

/** Head and rows as texts. */
const cellsOf = (head: readonly string[], rows: readonly (readonly Cell[])[]): string[][] =>
  [head, ...rows].map((row) => row.map((cell) => printableLines(String(cell))));

const shortened = (cell: string, room: number): string =>
  cell
    .split('\n')
    .map((line) => cliTruncate(line, room, { position: 'middle' }))
    .join('\n');

/** Which columns are shown, and how wide the one is that gives way; `room` is undefined where all has place. */
function layoutOf(
  head: readonly string[],
  cells: readonly (readonly string[])[],
  { width = Number.POSITIVE_INFINITY, shorten, wrap, leaveOut = [] }: TableOptions,
): { readonly columns: readonly number[]; readonly room: number | undefined; readonly flexible: number } {
  const widths = head.map((_, column) =>
    cells.reduce((most, row) => Math.max(most, ...(row[column] ?? '').split('\n').map((line) => stringWidth(line))), 0),
  );
  const flexible = head.indexOf(shorten ?? wrap ?? '');
  let columns = head.map((_, column) => column);
  const widthOf = (some: readonly number[]) => some.reduce((sum, column) => sum + widths[column]! + gap, -gap);
  if (flexible < 0 || widthOf(columns) <= width) return { columns, room: undefined, flexible };
  const natural = widths[flexible]!;
  const roomOf = (some: readonly number[]) => width - (widthOf(some) - natural);
  for (const name of leaveOut) {
    if (roomOf(columns) >= Math.min(comfortable, natural)) break;
    columns = columns.filter((column) => head[column] !== name);
  }
  const room = Math.max(roomOf(columns), Math.min(least, natural));
  return { columns, room: room < natural ? room : undefined, flexible };
}
