/** The bytes in a `data:` URL. */
import { check } from '../runtime/errors.ts';
import { Pace } from '../runtime/pace.ts';
import { joined } from './bytes.ts';
import { maxFileBytes } from './limits.ts';

/** Characters decoded between two looks at the clock. */
const pieceLength = 2 ** 20;
/** Characters in which the comma is looked for. */
const maxHead = 4096;

export const isDataUrl = (text: string): boolean => /^\s*data:/i.test(text.slice(0, 64));

/**
 * Decodes a `data:` URL (RFC 2397), base64 or percent-encoded. Characters that should have been escaped and were not are taken as they
 * stand, as hand-written SVG in style sheets has them.
 *
 * @throws MomeError `MOME_INVALID_ARGUMENT` without a comma, or for base64 that is none; `MOME_TOO_LARGE`
 */
export async function dataUrlBytes(name: string, url: string, signal?: AbortSignal): Promise<Uint8Array> {
  const comma = url.slice(0, maxHead).indexOf(',');
  check(comma >= 0, 'MOME_INVALID_ARGUMENT', `${name}: expected a comma before the picture, got none`);
  const base64 = /;\s*base64\s*$/i.test(url.slice(0, comma));
  const pace = new Pace();
  const pieces: Buffer[] = [];
  let length = 0;
  let rest = '';
  for (let at = comma + 1; at < url.length; at += pieceLength) {
    signal?.throwIfAborted();
    const last = at + pieceLength >= url.length;
    const text = rest + url.slice(at, at + pieceLength);
    const [piece, left] = base64 ? fromBase64(name, text, last) : fromPercent(text, last);
    pieces.push(piece);
    rest = left;
    length += piece.length;
    check(length <= maxFileBytes, 'MOME_TOO_LARGE', `${name}: expected at most ${maxFileBytes} bytes, got more`);
    await pace.rest();
  }
  return joined(pieces, signal);
}

/** Bytes of `text`, and its end when that must wait for more. */
type Piece = readonly [bytes: Buffer, left: string];

function fromPercent(text: string, last: boolean): Piece {
  // An escape, or a pair of surrogates, may lie across the end.
  const whole = last ? text.length : text.length - (/(?:%.?|[\ud800-\udbff])$/.exec(text.slice(-2))?.[0].length ?? 0);
  const part = text.slice(0, whole);
  if (!part.includes('%')) return [Buffer.from(part), text.slice(whole)];
  const bytes = Buffer.from(part);
  const percent = 0x25;
  let length = 0;
  for (let i = 0; i < bytes.length; i++, length++) {
    const escaped = bytes[i] === percent ? Number.parseInt(hexPair(bytes, i + 1), 16) : Number.NaN;
    bytes[length] = Number.isNaN(escaped) ? bytes[i]! : escaped;
    if (!Number.isNaN(escaped)) i += 2;
  }
  return [bytes.subarray(0, length), text.slice(whole)];
}

/** Two hexadecimal digits at `at`, or what is no number. */
function hexPair(bytes: Buffer, at: number): string {
  const digits = bytes.toString('latin1', at, at + 2);
  return /^[\da-f]{2}$/i.test(digits) ? digits : '';
}

function fromBase64(name: string, text: string, last: boolean): Piece {
  const cut = last ? text.length : text.length - (/%.?$/.exec(text.slice(-2))?.[0].length ?? 0);
  const unescaped = text
    .slice(0, cut)
    .replace(/%([\da-f]{2})/gi, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
  const characters = unescaped.replace(/[\t\n\f\r ]+/g, '');
  check(
    /^[\w+/-]*={0,2}$/.test(characters),
    'MOME_INVALID_ARGUMENT',
    `${name}: expected base64 after the comma, got other characters`,
  );
  const whole = last ? characters.length : characters.length & ~3;
  return [Buffer.from(characters.slice(0, whole), 'base64'), characters.slice(whole) + text.slice(cut)];
}
