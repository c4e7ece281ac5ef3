/** Names and messages from outside, made safe to show on a terminal or a page. */

/**
 * Characters that are not shown as themselves: control characters (C0, DEL, C1), line and paragraph separators, marks that change the
 * direction of what follows, invisible ones that hide inside a word, and halves of a surrogate pair.
 */
const unprintable =
  /[\p{Cc}\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]|\p{Surrogate}/gu;

const short: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/**
 * `text` on one line, with every character that could act on a terminal written as an escape: `\n`, `\x1b`, `\u{202e}`.
 *
 * @example printable('a\u001b[31m.png') // 'a\\x1b[31m.png'
 */
export function printable(text: string): string {
  return text.replace(unprintable, (character) => {
    const code = character.codePointAt(0)!;
    return short[character] ?? (code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`);
  });
}

/** JSON in which such characters are escaped as well; `indent` as of `JSON.stringify`. */
export function printableJson(value: unknown, indent = 0): string {
  const escaped = (character: string) =>
    Array.from(
      { length: character.length },
      (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`,
    ).join('');
  // Outside of strings JSON holds line ends alone.
  return JSON.stringify(value, null, indent).replace(unprintable, (found) => (found === '\n' ? found : escaped(found)));
}

/** {@link printable} for a text of several lines and columns: line ends and tabs stay. */
export function printableLines(text: string): string {
  return text.replace(/[^\n\t]+/g, printable);
}
