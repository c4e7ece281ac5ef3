/** The calls that `mome bench` times. */
import type { Vlmo } from '../inference/index.ts';

/** A kind of call that is timed. */
export interface BenchCall {
  readonly name: string;
  readonly items: number;
  readonly call: (signal: AbortSignal) => Promise<unknown>;
}

/** Raw pictures, so that decoding is no part of the time. */
export function benchCalls(model: Vlmo): BenchCall[] {
  const size = model.config.imageSize;
  const images = Array.from({ length: 8 }, (_, image) => ({
    data: new Uint8Array(size * size * 3).map((_, i) => (i * (2 * image + 1)) & 255),
    width: size,
    height: size,
    channels: 3 as const,
  }));
  const text = 'a small picture of a happy cat';
  const texts = Array.from({ length: 32 }, () => text);
  return [
    { name: '1 picture', items: 1, call: (signal) => model.embedImages(images.slice(0, 1), { signal }) },
    { name: '8 pictures', items: 8, call: (signal) => model.embedImages(images, { signal }) },
    { name: '1 text', items: 1, call: (signal) => model.embedTexts([text], { signal }) },
    { name: '32 texts', items: 32, call: (signal) => model.embedTexts(texts, { signal }) },
    {
      name: '8 pairs',
      items: 8,
      call: (signal) =>
        model.match(
          images.map((image) => ({ image, text })),
          { signal },
        ),
    },
  ];
}
