/**
 * Refuses weights that are NaN or infinite when a file is read, with the tensor's name and the index: no result could be finite.
 */
import type { Hash } from 'node:crypto';
import { addon } from '../runtime/addon.ts';
import { clip, MomeError, requireNotAborted } from '../runtime/errors.ts';
import type { InputFile } from '../runtime/input-file.ts';
import { Pace } from '../runtime/pace.ts';
import type { ParameterSource } from './beit.ts';
import { requireScales, requireSymmetric } from './quantise.ts';
import { elementBytes, type TensorEntry } from './tensors.ts';

/** Bytes checked at a time, which takes a fraction of a millisecond. */
const pieceBytes = 2 ** 20;

/** @throws MomeError `MOME_NON_FINITE` for the first value of a source that is NaN or infinite */
export async function requireFinite(values: Float32Array, source: ParameterSource): Promise<void> {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const pace = new Pace();
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const index = addon().firstNonFinite(bytes.subarray(at, at + pieceBytes), 'F32');
    if (index >= 0) throw nonFinite(source, at / 4 + index, values[at / 4 + index]!);
    await pace.rest();
  }
}

/**
 * Reads a whole file once. Its bytes go into `hash`, and the values of `entries` are checked: dense tensors of a float type, and of 8 bits
 * with the scales of their rows.
 *
 * @throws MomeError `MOME_NON_FINITE` naming the tensor and the index, `MOME_INVALID_FILE` for 8-bit values or scales that no row can have,
 *   `MOME_IO`, `MOME_ABORTED`
 */
export async function hashFile(
  file: InputFile,
  entries: Iterable<TensorEntry>,
  hash: Hash,
  signal?: AbortSignal,
  onProgress?: (done: number) => unknown,
): Promise<void> {
  const list = [...entries];
  const scales = new Set(list.flatMap(({ scale }) => (scale ? [scale] : [])));
  const pieces = piecesOf(file, [...list, ...scales]);
  // While one piece is hashed the next is read.
  let next = readPiece(file, pieces.next().value);
  let done = 0;
  for (;;) {
    const piece = await next;
    if (piece === undefined) break;
    next = readPiece(file, pieces.next().value);
    try {
      requireNotAborted(signal, 'load');
      requireFinitePiece(piece);
      requireRowsPiece(piece, scales);
      if (piece.isNew) hash.update(piece.bytes);
      done = Math.max(done, piece.position + piece.bytes.length);
      await onProgress?.(done);
    } catch (error) {
      await next.catch(() => {});
      throw error;
    }
  }
  await file.requireUnchanged();
}

/** A part of a file, and the tensor whose elements it holds. */
interface Piece {
  readonly position: number;
  readonly length: number;
  readonly entry: TensorEntry | undefined;
  /** Whether no earlier piece had these bytes: tensors may share them. */
  readonly isNew: boolean;
}

/** Cuts a file from start to end into pieces, at the ends of tensors and between elements. */
function* piecesOf(file: InputFile, entries: Iterable<TensorEntry>): Generator<Piece, undefined> {
  const cut = function* (from: number, to: number, entry?: TensorEntry, isNew = true): Generator<Piece> {
    for (let position = from; position < to; position += pieceBytes)
      yield { position, length: Math.min(pieceBytes, to - position), entry, isNew };
  };
  const sorted = [...entries].sort((a, b) => a.offset - b.offset);
  let done = 0;
  for (const entry of sorted) {
    const end = entry.offset + elementBytes[entry.dtype] * entry.shape.reduce((product, size) => product * size, 1);
    if (entry.offset < done) {
      // Shares bytes with an earlier tensor: checked again by its own type.
      yield* cut(entry.offset, end, entry, false);
      continue;
    }
    yield* cut(done, entry.offset);
    yield* cut(entry.offset, end, entry);
    done = Math.max(done, end);
  }
  yield* cut(done, file.size);
  return undefined;
}

async function readPiece(
  file: InputFile,
  piece: Piece | undefined,
): Promise<(Piece & { readonly bytes: Uint8Array }) | undefined> {
  return piece && { ...piece, bytes: await file.read(piece.position, piece.length) };
}

function requireFinitePiece({ entry, position, bytes }: Piece & { readonly bytes: Uint8Array }): void {
  if (entry === undefined) return;
  const size = elementBytes[entry.dtype];
  const index = addon().firstNonFinite(bytes, entry.dtype);
  if (index < 0) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset + index * size, size);
  throw nonFinite(entry, (position - entry.offset) / size + index, numberIn(view, entry.dtype));
}

/** Checks 8-bit values and the scales of their rows. */
function requireRowsPiece(
  { entry, position, bytes }: Piece & { readonly bytes: Uint8Array },
  scales: ReadonlySet<TensorEntry>,
): void {
  if (entry === undefined) return;
  const where = `${entry.path}: ${clip(entry.name)}`;
  if (entry.dtype === 'I8') requireSymmetric(bytes, position - entry.offset, where);
  if (!scales.has(entry)) return;
  requireScales(new Float32Array(bytes.slice().buffer), (position - entry.offset) / 4, where);
}

/** The value of an element that is NaN or infinite. */
function numberIn(view: DataView, dtype: TensorEntry['dtype']): number {
  if (dtype === 'F32') return view.getFloat32(0, true);
  const bits = view.getUint16(0, true);
  const fraction = dtype === 'BF16' ? bits & 0x7f : bits & 0x3ff;
  if (fraction !== 0) return Number.NaN;
  return bits & 0x8000 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
}

function nonFinite(source: ParameterSource, index: number, value: number): MomeError {
  const where = 'path' in source ? `${source.path}: ${source.name}` : source.name;
  return new MomeError(
    'MOME_NON_FINITE',
    `${where}: expected finite values, got ${value} at index ${index} of shape [${source.shape.join(', ')}]`,
  );
}
