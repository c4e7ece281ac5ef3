/** Drawings as pixels. */
import sharp from 'sharp';

const largestInput = 1 << 26;
const clear = { r: 0, g: 0, b: 0, alpha: 0 };

/** @param draw `{ svg() }`, `{ file }` or `{ bytes }` */
function open(draw, size) {
  const input = draw.svg ? Buffer.from(draw.svg()) : (draw.bytes ?? draw.file);
  return sharp(input, { limitInputPixels: largestInput })
    .resize(size, size, { fit: 'contain', background: clear })
    .toColourspace('srgb')
    .ensureAlpha();
}

/** Premultiplied RGBA, [size, size, 4]; undefined for what cannot be drawn. */
export async function pixelsOf(draw, size) {
  try {
    const data = await open(draw, size).raw().toBuffer();
    for (let at = 0; at < data.length; at += 4) {
      const alpha = data[at + 3];
      if (alpha === 255) continue;
      for (let channel = 0; channel < 3; channel++) data[at + channel] = Math.round((data[at + channel] * alpha) / 255);
    }
    return data;
  } catch {
    return undefined;
  }
}

/** A PNG with a transparent background. */
export const writePng = (draw, size, file) => open(draw, size).png({ compressionLevel: 6 }).toFile(file);
