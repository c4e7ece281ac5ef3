/** Which files are taken for pictures by their names, and which of them can be decoded: the one list of search and training. */
import { sharpLibrary } from './sharp.ts';

/** Decoders of sharp, with the endings of the files they read. */
const endingsByDecoder: Readonly<Record<string, readonly string[]>> = {
  jpeg: ['jpg', 'jpeg', 'jpe', 'jfif', 'jif', 'pjpeg', 'pjp'],
  png: ['png', 'apng'],
  webp: ['webp'],
  gif: ['gif'],
  svg: ['svg'],
  tiff: ['tif', 'tiff'],
  // HEIC is found out by its contents: the usual build of sharp decodes AV1 alone.
  heif: ['avif', 'avifs', 'heic', 'heif', 'heics', 'heifs', 'hif'],
  jxl: ['jxl'],
  jp2: ['jp2', 'j2k', 'jpf', 'jpx', 'jpm', 'j2c'],
  ppm: ['ppm', 'pgm', 'pbm', 'pnm', 'pfm'],
  magick: ['bmp', 'dib', 'ico', 'cur', 'psd', 'tga', 'dds', 'xcf', 'pcx', 'wbmp', 'xbm', 'xpm', 'qoi', 'exr', 'hdr'],
  dcraw: ['dng', 'cr2', 'cr3', 'nef', 'arw', 'orf', 'rw2', 'raf', 'pef', 'srw', 'raw'],
};

const decoderByEnding: ReadonlyMap<string, string> = new Map(
  Object.entries(endingsByDecoder).flatMap(([decoder, endings]) => endings.map((ending) => [ending, decoder] as const)),
);

const isDecoded = (decoder: string): boolean => {
  const formats: Readonly<Record<string, { readonly input?: { readonly buffer?: boolean } } | undefined>> = {
    ...sharpLibrary().format,
  };
  return formats[decoder]?.input?.buffer === true;
};

/** The ending of a file name without its dot, in lower case; empty where there is none. */
export function endingOf(name: string): string {
  const dot = name.lastIndexOf('.');
  return dot < 0 || name.indexOf('/', dot) >= 0 ? '' : name.slice(dot + 1).toLowerCase();
}

/**
 * What a file is by its name: a picture that can be decoded here (`readable`), a picture of a format without a decoder (`unreadable`),
 * or nothing that is taken for a picture.
 */
export function pictureKind(name: string): 'readable' | 'unreadable' | undefined {
  const decoder = decoderByEnding.get(endingOf(name));
  if (decoder === undefined) return undefined;
  return isDecoded(decoder) ? 'readable' : 'unreadable';
}
