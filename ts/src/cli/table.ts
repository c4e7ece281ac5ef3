/** Plain tables for people. */
import Table from 'cli-table3';
import { printableLines } from '../runtime/printable.ts';

/** Rows under a head, without lines between them. A cell may have several lines: names of files are passed through `printable` before. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const result = new Table({
    head: [...head],
    style: { head: [], border: [], compact: true },
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
      middle: '  ',
    },
  });
  for (const row of rows) result.push(row.map((cell) => (typeof cell === 'string' ? printableLines(cell) : cell)));
  return result.toString();
}
