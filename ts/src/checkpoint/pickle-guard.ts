/**
 * Walks over a pickle before the library reads it: only the opcodes that `torch.save` writes, every length inside the bytes, and
 * bounded work.
 *
 * The library trusts lengths (a negative one makes it go round forever) and builds whatever it is told to, without a limit.
 */
import { type ErrorCode, MomeError } from '../runtime/errors.ts';

/**
 * Most steps of a pickle in a small file: some hundredths of a second of the library's work. Larger files may have more: a large model with
 * three averages of its weights and its optimizer takes 260,000 steps, in gigabytes.
 */
const stepsOfSmall = 200_000;
const bytesPerMoreStep = 256;
const mostSteps = 600_000;
/** Bytes of a text or of bytes that count as one step. */
const bytesPerStep = 64;

/** Most containers that are open at a time, as in Python. */
const maxDepth = 1000;
/** Most bytes of a long integer that the library reads exactly; it is given larger ones, such as states of random numbers, as bytes. */
const maxLongBytes = 6;

/** What follows an opcode: bytes, a length of so many bytes and then as many bytes, or lines. */
type Argument = number | 'length1' | 'length4' | 'lines';

const mark = code('(');
const stop = code('.');
const build = code('b');
const long1 = 0x8a;
const long4 = 0x8b;
const shortBytes = code('C');
const bytes4 = code('B');
const pop = code('0');
/** Opcodes that take everything down to the last mark. */
const closing: ReadonlySet<number> = new Set([...'teu'].map(code).concat(0x90, 0x91));

/** Opcodes that take more than one step: those that make objects or texts, and a long, of which the library may warn. */
const stepsOf: ReadonlyMap<number, number> = new Map([
  ...[code('c'), 0x93, long1, long4].map((each): [number, number] => [each, 100]), // GLOBAL STACK_GLOBAL LONG1 LONG4: torch writes each once
  [code('}'), 8], // EMPTY_DICT
  ...[0x8f, 0x91].map((each): [number, number] => [each, 8]), // EMPTY_SET FROZENSET
  ...[code('X'), 0x8c, code('B'), code('C')].map((each): [number, number] => [each, 6]), // texts and bytes
  [0x94, 4], // MEMOIZE
  // EMPTY_LIST TUPLE LONG_BINPUT REDUCE, NEWOBJ TUPLE1 TUPLE2 TUPLE3
  ...[...[...']trR'].map(code), 0x81, 0x85, 0x86, 0x87].map((each): [number, number] => [each, 2]),
]);

/** Opcodes by what follows them; letters as in Python's `pickletools`, the others by number. */
const argumentOf: ReadonlyMap<number, Argument> = new Map([
  // MARK STOP POP NONE TUPLE EMPTY_TUPLE LIST and DICT: EMPTY APPEND(S) SETITEM(S), BINPERSID REDUCE BUILD
  ...[...'(.0Nt)]}aesuQRb'].map((letter): [number, Argument] => [code(letter), 0]),
  // NEWOBJ TUPLE1 TUPLE2 TUPLE3 NEWTRUE NEWFALSE EMPTY_SET ADDITEMS FROZENSET STACK_GLOBAL MEMOIZE
  ...[0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8f, 0x90, 0x91, 0x93, 0x94].map((each): [number, Argument] => [each, 0]),
  [0x80, 1], // PROTO
  [0x95, 8], // FRAME
  [code('q'), 1], // BINPUT
  [code('r'), 4], // LONG_BINPUT
  [code('h'), 1], // BINGET
  [code('j'), 4], // LONG_BINGET
  [code('K'), 1], // BININT1
  [code('M'), 2], // BININT2
  [code('J'), 4], // BININT
  [code('G'), 8], // BINFLOAT
  [long1, 'length1'], // LONG1
  [long4, 'length4'], // LONG4
  [code('X'), 'length4'], // BINUNICODE
  [0x8c, 'length1'], // SHORT_BINUNICODE
  [code('B'), 'length4'], // BINBYTES
  [code('C'), 'length1'], // SHORT_BINBYTES
  [code('c'), 'lines'], // GLOBAL
]);

function code(letter: string): number {
  return letter.charCodeAt(0);
}

/**
 * A copy of `bytes` that the library may read. State for an object (BUILD) is dropped in it: no tensor needs it, and the library
 * would assign it to whatever lies on the stack. Integers of more than 48 bits become bytes: no tensor needs them either.
 *
 * @param fileBytes size of the file around the pickle, by which it may have more steps
 * @throws MomeError `MOME_INVALID_FILE` for other opcodes and lengths past the end, `MOME_TOO_LARGE` for too many steps
 */
export function guardPickle(bytes: Uint8Array, path: string, fileBytes = bytes.length): Uint8Array {
  const maxSteps = Math.min(mostSteps, stepsOfSmall + Math.floor(fileBytes / bytesPerMoreStep));
  const safe = new Uint8Array(bytes);
  const view = new DataView(safe.buffer);
  let steps = 0;
  let depth = 0;
  let at = 0;
  const refuse = (message: string, kind: ErrorCode = 'MOME_INVALID_FILE'): never => {
    throw new MomeError(kind, `${path}: pickle: ${message} at byte ${at}`);
  };
  while (at < safe.length) {
    const opcode = safe[at]!;
    if (opcode === stop) return safe;
    const argument = argumentOf.get(opcode) ?? refuse(`expected an opcode of torch.save, got 0x${opcode.toString(16)}`);
    if (opcode === mark) depth++;
    else if (closing.has(opcode)) depth--;
    if (depth < 0) refuse('expected a mark before');
    if (depth > maxDepth) refuse(`expected at most ${maxDepth} open containers`, 'MOME_TOO_LARGE');
    if (opcode === build) safe[at] = pop;
    const end = endOfArgument(view, at + 1, argument);
    if (end > safe.length) refuse('expected the argument to lie inside the pickle');
    if (opcode === long1 && end - at - 2 > maxLongBytes) safe[at] = shortBytes;
    if (opcode === long4) safe[at] = bytes4;
    steps += (stepsOf.get(opcode) ?? 1) + Math.floor((end - at) / bytesPerStep);
    if (steps > maxSteps) refuse(`expected at most ${maxSteps} steps`, 'MOME_TOO_LARGE');
    at = end;
  }
  return refuse('expected STOP, got the end');
}

/** Where an argument at `start` ends; infinity when its length or its lines lie past the end. */
function endOfArgument(view: DataView, start: number, argument: Argument): number {
  if (typeof argument === 'number') return start + argument;
  if (argument === 'lines') return endOfLine(view, endOfLine(view, start));
  const lengthBytes = argument === 'length4' ? 4 : 1;
  if (start + lengthBytes > view.byteLength) return Number.POSITIVE_INFINITY;
  // The library reads the length of bytes as signed; one that would be negative lies past the end here.
  return start + lengthBytes + (lengthBytes === 4 ? view.getUint32(start, true) : view.getUint8(start));
}

function endOfLine(view: DataView, start: number): number {
  if (start >= view.byteLength) return Number.POSITIVE_INFINITY;
  const found = new Uint8Array(view.buffer).indexOf(0x0a, start);
  return found < 0 ? Number.POSITIVE_INFINITY : found + 1;
}
