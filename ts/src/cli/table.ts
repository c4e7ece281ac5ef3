/** Plain tables for people. */
import Table from 'cli-table3';

/** Rows under a head, without lines between them. */
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
  for (const row of rows) result.push([...row]);
  return result.toString();
}
