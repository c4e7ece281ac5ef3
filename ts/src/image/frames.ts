/**
 * Messages between this process and its picture decoders, on pipes: two lengths, a JSON header, bytes.
 */

import type { PictureTransform } from './transform.ts';

/** How files become pixels: as inference reads them, or as the original's training does, not turned upright and transparency dropped. */
export type PictureRules = 'upright' | 'original';

/** A request to a decoder. Without `path` the bytes of the message are the file. */
export interface DecodeRequest {
  /** How errors call the picture. */
  readonly name: string;
  readonly path?: string;
  /** Side of the square that is wanted. */
  readonly size: number;
  /** Whether the picture fills the square, or keeps its proportions inside it; default `fill`. */
  readonly fit?: Fit;
  /** What training does to it instead. */
  readonly transform?: PictureTransform;
  /** Default `upright`. */
  readonly rules?: PictureRules;
  /** Most pixels, where fewer are allowed than `limits.ts` does. */
  readonly maxPixels?: number;
}

/** How a picture is put into a square: stretched to fill it, or in its own proportions inside it. */
export type Fit = 'fill' | 'inside';

/** A message of a decoder: it is ready, the pixels it is about to decode, the picture (its bytes follow), or why there is none. */
export type DecodeReply =
  | { readonly kind: 'ready' }
  | { readonly kind: 'pixels'; readonly count: number }
  | { readonly kind: 'picture'; readonly width: number; readonly height: number }
  | { readonly kind: 'error'; readonly code: string; readonly message: string; readonly reason?: string };

export interface Frame {
  readonly header: unknown;
  readonly bytes: Uint8Array;
}

const prefixBytes = 8;

/** The start of a message; its `byteLength` bytes are written after it. */
export function frameHeader(header: DecodeRequest | DecodeReply, byteLength: number): Buffer {
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(prefixBytes);
  prefix.writeUInt32LE(json.length, 0);
  prefix.writeUInt32LE(byteLength, 4);
  return Buffer.concat([prefix, json]);
}

/** Puts messages together from the pieces that a pipe gives. */
export class FrameReader {
  readonly #prefix = Buffer.alloc(prefixBytes);
  #header: Buffer | undefined;
  #bytes: Buffer | undefined;
  /** Bytes of the current part (prefix, header or bytes) that are there. */
  #filled = 0;

  /** Messages that `piece` completes, in order. */
  push(piece: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    let at = 0;
    for (;;) {
      const part = this.#bytes ?? this.#header ?? this.#prefix;
      const taken = Math.min(part.length - this.#filled, piece.length - at);
      part.set(piece.subarray(at, at + taken), this.#filled);
      at += taken;
      this.#filled += taken;
      if (this.#filled < part.length) return frames;
      this.#filled = 0;
      if (!this.#header) {
        this.#header = Buffer.allocUnsafeSlow(this.#prefix.readUInt32LE(0));
      } else if (!this.#bytes) {
        this.#bytes = Buffer.allocUnsafeSlow(this.#prefix.readUInt32LE(4));
      } else {
        frames.push({ header: JSON.parse(this.#header.toString()), bytes: this.#bytes });
        this.#header = undefined;
        this.#bytes = undefined;
      }
    }
  }
}
