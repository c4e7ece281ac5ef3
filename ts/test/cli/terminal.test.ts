/** Tables within the width of a terminal, and lines beside a progress bar. */
import stringWidth from 'string-width';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { note } from '../../src/cli/output.ts';
import { printTable, table } from '../../src/cli/table.ts';
import { progressBar, styled } from '../../src/cli/terminal.ts';

const escapeCode = '\u001b';
/** What moves the cursor or clears, ends of lines, and characters. */
const tokens = new RegExp(`${escapeCode}\\[\\??(\\d*)([A-Za-z])|\\r|\\n|[^\\r\\n${escapeCode}]`, 'g');

/** What a terminal shows of these bytes: as much of one as the command uses. */
function screenOf(bytes: string): string[] {
  const lines: string[] = [''];
  let row = 0;
  let column = 0;
  for (const [token, parameter, command] of bytes.matchAll(tokens)) {
    const count = Number(parameter || 1);
    const before = (lines[row] ?? '').slice(0, column);
    if (token === '\n') [row, column] = [row + 1, 0];
    else if (token === '\r') column = 0;
    else if (command === 'G') column = count - 1;
    else if (command === 'A') row = Math.max(0, row - count);
    else if (command === 'K') lines[row] = parameter === '2' ? ' '.repeat(column) : before;
    else if (command === 'J') lines.splice(row, lines.length, before);
    else if (command === undefined) {
      lines[row] = before.padEnd(column) + token + (lines[row] ?? '').slice(column + 1);
      column++;
    }
    while (lines.length <= row) lines.push('');
  }
  return lines.map((line) => line.trimEnd());
}

describe('a table', () => {
  const long = 'holiday/2024-06-01/a-very-long-name-of-a-photograph-without-any-meaning-IMG_0001.jpeg';
  const head = ['', 'picture', 'cosine', 'moved'];
  const rows = [
    [1, long, '0.1234', 'up 2'],
    [2, '猫の写真がたくさんある長い名前のファイル.png', '0.1200', ''],
    [3, 'short.png', '0.1100', 'down 1'],
  ];
  const options = { shorten: 'picture', leaveOut: ['moved'] };

  it('is as wide as it needs without a bound', () => {
    expect(table(head, rows).split('\n')[1]).toBe(`1  ${long}  0.1234  up 2`);
  });

  it.each([20, 30, 40, 60, 80, 200])('keeps within %i columns, whatever the script of a name', (width) => {
    const lines = table(head, rows, { ...options, width }).split('\n');
    expect(lines).toHaveLength(4);
    for (const line of lines) expect(stringWidth(line)).toBeLessThanOrEqual(width);
    expect(lines[1]).toContain(width < 100 ? '…' : long);
    expect(lines[1]).toContain('0.1234');
    expect(lines[3]).toContain('short.png'.slice(0, 3));
  });

  it('shortens a name in its middle and leaves columns out before names become unreadable', () => {
    const [, first] = table(head, rows, { ...options, width: 60 }).split('\n');
    expect(first).toMatch(/^1 {2}holiday\/.*….*0001\.jpeg {2}0\.1234 {2}up 2$/);
    expect(table(head, rows, { ...options, width: 34 })).not.toContain('moved');
  });

  it('lets sentences go on in the next line', () => {
    const wrapped = table(['name', 'for'], [['a', 'one two three four five']], { wrap: 'for', width: 16 });
    expect(wrapped.split('\n')).toEqual(['name  for', 'a     one two', '      three four', '      five']);
  });
});

it('a table that is printed tells which columns it had room for', () => {
  const { isTTY, columns } = process.stdout;
  const write = vi.spyOn(process.stdout, 'write').mockImplementation(() => true);
  const print = (width: number) => {
    Object.assign(process.stdout, { isTTY: true, columns: width });
    return printTable(['picture', 'moved'], [['a long name of a picture.png', 'up 2']], {
      shorten: 'picture',
      leaveOut: ['moved'],
    });
  };
  try {
    expect([print(80), print(20)]).toEqual([['picture', 'moved'], ['picture']]);
  } finally {
    write.mockRestore();
    Object.assign(process.stdout, { isTTY, columns });
  }
});

describe('a progress bar', () => {
  const { isTTY, columns } = process.stderr;
  afterEach(() => {
    Object.assign(process.stderr, { isTTY, columns });
    vi.restoreAllMocks();
  });

  it('and lines beside it never overwrite each other', () => {
    Object.assign(process.stderr, { isTTY: true, columns: 80 });
    let bytes = '';
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      bytes += String(text);
      return true;
    });
    const progress = progressBar('indexing');
    note('before');
    progress.update(1, 10);
    note('a line that is longer than the bar of the progress that stands below it, so that its end would stay');
    expect(screenOf(bytes).at(-1)).toMatch(/^indexing .* 1\/10 {2}eta/);
    progress.update(2, 10);
    note('second');
    note('third, behind which nothing has moved on');
    expect(screenOf(bytes)).toEqual([
      'mome: before',
      'mome: a line that is longer than the bar of the progress that stands below it, so that its end would stay',
      'mome: second',
      'mome: third, behind which nothing has moved on',
      expect.stringMatching(/^indexing .* 2\/10 {2}eta/),
    ]);
    progress.stop();
    note('after');
    expect(screenOf(bytes).slice(4)).toEqual(['mome: after', '']);
  });

  it('has room for its numbers on a narrow terminal', () => {
    Object.assign(process.stderr, { isTTY: true, columns: 40 });
    let bytes = '';
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      bytes += String(text);
      return true;
    });
    const progress = progressBar('indexing');
    progress.update(3, 10);
    note('x');
    expect(screenOf(bytes).at(-1)!.slice(0, 40)).toContain('3/10  eta');
    progress.stop();
  });
});

describe('styles', () => {
  afterEach(() => vi.unstubAllEnvs());

  it('follow FORCE_COLOR and NO_COLOR, and are left out where nobody sees them', () => {
    vi.stubEnv('NO_COLOR', undefined);
    vi.stubEnv('FORCE_COLOR', undefined);
    vi.stubEnv('FORCE_COLOR', '1');
    expect(styled('bold', 'x')).toBe('\u001b[1mx\u001b[22m');
    vi.stubEnv('FORCE_COLOR', undefined);
    vi.stubEnv('NO_COLOR', '1');
    expect(styled('bold', 'x')).toBe('x');
  });
});
