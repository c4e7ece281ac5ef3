/** Limits of one picture: its size, and the time and memory of decoding it. */

/** Bytes of a file, a stream or a `data:` URL. */
export const maxFileBytes = 256 * 2 ** 20;
/** Pixels of a picture, and its longest side. */
export const maxPixels = 2 ** 27;
export const maxSide = 65_535;

/** Milliseconds of processor time to decode pictures of up to `pixelsInTime` pixels; larger ones get more in proportion. */
export const decodeMilliseconds = 10_000;
export const pixelsInTime = 2 ** 24;
/** Where the processor is shared: so many times as long on the clock. */
export const clockFactor = 3;
/** Memory of a decoder for one picture: so many bytes, and more for each pixel. */
export const decodeBytes = 2 ** 30;
export const bytesPerPixel = 12;

/** Milliseconds of processor time for a picture. */
export const millisecondsFor = (pixels: number): number => decodeMilliseconds * Math.max(1, pixels / pixelsInTime);
