/// <reference lib="dom" />
/** Pictures of the index as images of the page: read with the key, a few at a time, and kept while they are of use. */
import * as api from './api.ts';
import { make } from './dom.ts';

/** Pictures kept; their memory is given back beyond. */
const mostKept = 400;
/** Requests at the same time: a browser has six connections, and searches need one as well. */
const together = 4;
/** Times that a picture is asked for again where the server is busy. */
const mostTries = 4;

const kept = new Map<number, Promise<string>>();
const waiting: (() => void)[] = [];
let running = 0;

/** The address of a small copy, for an image. @throws ApiError */
function thumbnail(index: number): Promise<string> {
  const known = kept.get(index);
  const url = known ?? load(index);
  kept.delete(index);
  kept.set(index, url); // the last ones used come last
  if (!known) url.catch(() => kept.delete(index));
  for (const [old, address] of kept) {
    if (kept.size <= mostKept) break;
    kept.delete(old);
    address.then(URL.revokeObjectURL, () => {});
  }
  return url;
}

/** Gives all copies back: the numbers are of another index. */
export function forgetThumbnails(): void {
  for (const address of kept.values()) address.then(URL.revokeObjectURL, () => {});
  kept.clear();
}

async function load(index: number): Promise<string> {
  if (running >= together) await new Promise<void>((resolve) => waiting.push(resolve));
  running++;
  try {
    return URL.createObjectURL(await readPatiently(index));
  } finally {
    running--;
    waiting.shift()?.();
  }
}

async function readPatiently(index: number): Promise<Blob> {
  for (let tries = 1; ; tries++)
    try {
      return await api.picture(index, 'thumbnails');
    } catch (error) {
      const { status, retryAfterMs = 1000 } = error as api.ApiError;
      if (status !== 429 || tries === mostTries) throw error;
      await new Promise((resolve) => setTimeout(resolve, retryAfterMs));
    }
}

/** An image of a picture of the index; a note stands in its place where it cannot be shown. @param alt its name */
export function thumbnailImage(index: number, alt: string): HTMLElement {
  const frame = make('span', { class: 'frame' });
  thumbnail(index).then(
    (url) => frame.append(make('img', { alt, src: url, draggable: 'false' })),
    (error: api.ApiError) => {
      const isGone = error.status === 404;
      frame.append(make('span', { class: 'gone' }, [isGone ? 'no longer readable' : 'not loaded']));
    },
  );
  return frame;
}
