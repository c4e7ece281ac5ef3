/**
 * Tells the kind of a file from its bytes, so that a message about a refused picture can name the kind and the remedy.
 */

/** Formats that are decoded. */
const pictureFormats = 'JPEG, PNG, WebP, GIF, SVG, AVIF or TIFF';

const latin = (bytes: Uint8Array, begin: number, end: number) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1', begin, end);

/** Starts of files, as Latin-1 text. */
const starts: readonly (readonly [start: string, name: string])[] = [
  ['\xff\xd8\xff', 'JPEG'],
  ['\x89PNG\r\n\x1a\n', 'PNG'],
  ['GIF87a', 'GIF'],
  ['GIF89a', 'GIF'],
  ['II*\0', 'TIFF'],
  ['MM\0*', 'TIFF'],
  ['II+\0', 'TIFF'],
  ['MM\0+', 'TIFF'],
  ['BM', 'BMP'],
  ['\0\0\x01\0', 'ICO'],
  ['8BPS', 'Photoshop'],
  ['\xff\x0a', 'JPEG XL'],
  ['\0\0\0\x0cJXL ', 'JPEG XL'],
  ['\0\0\0\x0cjP  ', 'JPEG 2000'],
  ['\xff\x4f\xff\x51', 'JPEG 2000'],
  ['qoif', 'QOI'],
  ['v/1\x01', 'OpenEXR'],
  ['#?RADIANCE', 'Radiance HDR'],
  ['DDS ', 'DDS'],
  ['gimp xcf ', 'GIMP'],
  ['II\xbc\x01', 'JPEG XR'],
  ['\0\0\x02\0', 'cursor'],
  ['%PDF', 'PDF'],
  ['PK\x03\x04', 'ZIP'],
  ['\x1f\x8b', 'gzip'],
  ['\x1aE\xdf\xa3', 'video'],
  ['version https://git-lfs', 'Git LFS pointer'],
];

/** Brands of files in boxes (ISO 14496-12) that hold one picture compressed as HEVC, or several. */
const heicBrands = /^(?:heic|heix|heim|heis|hevc|hevx|hevm|hevs)$/;

/** "JPEG", "HEIC", "text", ...; undefined where the bytes tell nothing. */
export function formatOf(bytes: Uint8Array): string | undefined {
  const head = latin(bytes, 0, 64);
  if (head.startsWith('RIFF') && head.slice(8, 12) === 'WEBP') return 'WebP';
  if (head.slice(4, 8) === 'ftyp') {
    const brand = head.slice(8, 12);
    if (heicBrands.test(brand)) return 'HEIC';
    if (brand === 'avif' || brand === 'avis') return 'AVIF';
    return brand === 'mif1' || brand === 'msf1' ? 'HEIF' : 'video';
  }
  const known = starts.find(([start]) => head.startsWith(start));
  if (known) return known[1];
  // Its numbers follow in a text, or its pixels as bytes.
  if (/^P[1-7Ff][ \t\r\n]+[\d#W]/.test(head)) return 'PPM';
  const text = latin(bytes, 0, 1024).replace(/^\xef\xbb\xbf/, '');
  if (/<svg[\s>]/i.test(text)) return 'SVG';
  if (/^\s*<(?:!doctype html|html)/i.test(text)) return 'HTML';
  if (/^\s*<\?xml/.test(text)) return 'XML';
  return text !== '' && /^[\t\n\r\x20-\x7e\x80-\xff]*$/.test(text) ? 'text' : undefined;
}

/** "expected a JPEG, ... picture, got ...": names the kind of a file that cannot be decoded, and the remedy. */
export function refusal(bytes: Uint8Array): string {
  const format = formatOf(bytes);
  switch (format) {
    case undefined:
      return `expected a ${pictureFormats} picture, got a file of another kind`;
    case 'HEIC':
    case 'HEIF':
      return `expected a ${pictureFormats} picture, got ${format}, which cannot be decoded; convert it to JPEG or AVIF`;
    case 'TIFF': {
      const colours = tiffColours(bytes);
      if (colours !== undefined)
        return `expected a ${pictureFormats} picture, got a TIFF in ${colours}, which cannot be decoded; convert it to PNG or JPEG`;
      return damaged(format);
    }
    case 'JPEG':
    case 'PNG':
    case 'WebP':
    case 'GIF':
    case 'SVG':
    case 'AVIF':
      return damaged(format);
    case 'text':
    case 'HTML':
    case 'XML':
    case 'video':
    case 'Git LFS pointer':
      return `expected a ${pictureFormats} picture, got ${format === 'Git LFS pointer' ? 'a Git LFS pointer; fetch the file itself' : format}`;
    default:
      return `expected a ${pictureFormats} picture, got ${format}; convert it to PNG or JPEG`;
  }
}

const damaged = (format: string): string =>
  `expected a whole ${format} picture, got one that is damaged, cut off or of a kind that cannot be decoded`;

/** Kinds of colours of a TIFF (tag 262) that are seldom decoded. */
const unusualColours: ReadonlyMap<number, string> = new Map([
  [8, 'CIE L*a*b* colours'],
  [9, 'ICC L*a*b* colours'],
  [10, 'ITU L*a*b* colours'],
  [32803, 'colours of a camera sensor'],
  [32844, 'LogL light'],
  [32845, 'LogLuv colours'],
  [34892, 'colours of a camera sensor'],
]);
const photometricTag = 262;

/** What the colours of a TIFF are, where they are unusual ones; of its first picture, and not of files beyond 4 GiB. */
function tiffColours(bytes: Uint8Array): string | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = bytes[0] === 0x49;
  if (view.byteLength < 8) return undefined;
  const directory = view.getUint32(4, little);
  if (directory + 2 > view.byteLength) return undefined;
  const entries = view.getUint16(directory, little);
  for (let at = directory + 2; at + 12 <= view.byteLength && at < directory + 2 + 12 * entries; at += 12)
    if (view.getUint16(at, little) === photometricTag) return unusualColours.get(view.getUint16(at + 8, little));
  return undefined;
}
