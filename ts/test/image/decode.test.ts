import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { decodeFile } from '../../src/image/decode.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { expectCode, testImage } from '../helpers.ts';

const picture = testImage(3, 24);
const fixture = (name: string) => readFileSync(new URL(`fixtures/${name}`, import.meta.url));
const reference = JSON.parse(fixture('reference.json').toString()) as Record<string, string>;
const encoded = (format: 'png' | 'jpeg' | 'webp' | 'gif' | 'avif') =>
  sharp(picture.data, { raw: picture })
    .toFormat(format, format === 'webp' || format === 'avif' ? { lossless: true } : {})
    .toBuffer();
const decode = (bytes: Uint8Array, svgSide = 224) => decodeFile('it', bytes, svgSide);
const drawing = (body: string, attributes = 'width="8" height="8"') =>
  Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" ${attributes}>${body}</svg>`);
const plain = (width: number, height: number) =>
  sharp({ create: { width, height, channels: 3, background: '#fff' }, limitInputPixels: false });

/** A TIFF of one pixel in CIE L*a*b*. */
function labTiff(little: boolean): Buffer {
  const tags = [256, 1, 257, 1, 258, 8, 259, 1, 262, 8, 273, 8, 277, 3, 278, 1, 279, 3];
  const bytes = Buffer.alloc(12 + 2 + 12 * (tags.length / 2) + 4);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  bytes.write(little ? 'II' : 'MM', 'latin1');
  view.setUint16(2, 42, little);
  view.setUint32(4, 12, little);
  view.setUint16(12, tags.length / 2, little);
  for (let i = 0; i < tags.length; i += 2) {
    const at = 14 + 6 * i;
    view.setUint16(at, tags[i]!, little);
    view.setUint16(at + 2, 3, little);
    view.setUint32(at + 4, 1, little);
    view.setUint16(at + 8, tags[i + 1]!, little);
  }
  return bytes;
}

describe('decodeFile', () => {
  it.each(['png', 'jpeg', 'webp', 'gif', 'avif'] as const)('reads %s', async (format) => {
    const { data, width, height } = await decode(await encoded(format));
    expect([width, height, data.length]).toEqual([24, 24, 24 * 24 * 3]);
    if (format === 'png' || format === 'webp') expect(data).toEqual(picture.data);
  });

  it.each(Object.keys(reference))('gives the bytes of the decoder of the original for %s', async (name) => {
    const { data } = await decode(fixture(name));
    const expected = Buffer.from(reference[name]!, 'base64');
    // JPEG decoders may round differently.
    const bound = name.endsWith('.jpg') ? 2 : 0;
    expect(Math.max(...expected.map((value, i) => Math.abs(value - data[i]!)))).toBeLessThanOrEqual(bound);
  });

  it('lays transparency over white, and grey and 16-bit pictures become RGB', async () => {
    const clear = await sharp({ create: { width: 2, height: 2, channels: 4, background: '#00000000' } })
      .png()
      .toBuffer();
    expect([...(await decode(clear)).data]).toEqual(Array(12).fill(255));
    const grey = sharp(Buffer.from([10, 200]), { raw: { width: 2, height: 1, channels: 1 } });
    expect([...(await decode(await grey.clone().toColourspace('b-w').png().toBuffer())).data]).toEqual([
      10, 10, 10, 200, 200, 200,
    ]);
    expect([...(await decode(await grey.toColourspace('grey16').png().toBuffer())).data]).toEqual([
      10, 10, 10, 200, 200, 200,
    ]);
    const deep = await sharp(picture.data, { raw: picture }).toColourspace('rgb16').png().toBuffer();
    const { data } = await decode(deep);
    expect(data.every((value, i) => Math.abs(value - picture.data[i]!) <= 1)).toBe(true);
  });

  it('turns pictures upright', async () => {
    const turned = await sharp(Buffer.from([255, 0, 0, 0, 0, 255]), { raw: { width: 2, height: 1, channels: 3 } })
      .withMetadata({ orientation: 6 })
      .png()
      .toBuffer();
    expect(await decode(turned)).toMatchObject({ width: 1, height: 2 });
  });

  it('renders drawings large enough, packed ones too', async () => {
    const svg = drawing('<rect width="4" height="8" fill="red"/>');
    for (const file of [svg, gzipSync(svg)]) {
      const { data, width } = await decode(file, 64);
      expect(width).toBe(64);
      expect([...data.subarray(0, 3)]).toEqual([255, 0, 0]);
      expect([...data.subarray((width - 1) * 3, width * 3)]).toEqual([255, 255, 255]);
    }
  });

  it.each([
    [1000, 1],
    [10, 3000],
    [600, 0.5],
    [40_000, 3],
  ])('renders a thin drawing of %d x %d as far as the limits allow', async (width, height) => {
    const halves =
      width > height
        ? '<rect width="50%" height="100%" fill="#f00"/>'
        : '<rect width="100%" height="50%" fill="#f00"/>';
    const image = await decode(drawing(halves, `width="${width}" height="${height}"`));
    expect(Math.max(image.width, image.height)).toBeLessThanOrEqual(32_767);
    const pixel = (part: number) => {
      const [x, y] = [Math.floor(image.width * part), Math.floor(image.height * part)];
      return [...image.data.subarray(3 * (y * image.width + x), 3 * (y * image.width + x) + 3)];
    };
    expect(pixel(0.25)).toEqual([255, 0, 0]);
    expect(pixel(0.75)).toEqual([255, 255, 255]);
  });

  it('refuses sides and pixels beyond the limits from the header', async () => {
    await expectCode(() => decode(drawing('', 'width="30000" height="30000"')), 'MOME_TOO_LARGE');
    await expectCode(() => decode(drawing('', 'width="70000" height="10"')), 'MOME_TOO_LARGE');
    const started = performance.now();
    const wide = await plain(65_536, 2).png().toBuffer();
    const error = await expectCode(() => decode(wide), 'MOME_TOO_LARGE');
    expect(error.message).toBe('it: expected sides of at most 65535 pixels, got 65536 x 2');
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it('counts pictures in drawings, however deep and however written', async () => {
    const large = (await plain(12_000, 12_000).png().toBuffer()).toString('base64');
    const shown = (url: string) => drawing(`<image width="8" height="8" href="${url}"/>`);
    const url = `data:image/png;base64,${large}`;
    const within = `data:image/svg+xml;base64,${shown(url).toString('base64')}`;
    for (const file of [
      shown(url),
      shown(within),
      ...['\n DATA:', '&#x64;&#65;ta&#058;'].map((start) => shown(url.replace('data:', start))),
      gzipSync(shown(url)),
    ]) {
      const error = await expectCode(() => decode(file), 'MOME_TOO_LARGE');
      expect(error.message).toMatch(/144000000|12000 x 12000/);
    }
    const small = (await plain(2, 2).png().toBuffer()).toString('base64');
    expect(await decode(shown(`data:image/png;base64,${small}`), 8)).toMatchObject({ width: 8, height: 8 });
  });

  it('refuses entities and defaults that could hold pictures', async () => {
    const small = (await plain(8, 8).png().toBuffer()).toString('base64');
    const url = `data:image/png;base64,${small}`;
    const image = (href: string) => `<image width="8" height="8" href="${href}"/>`;
    const declared = (declarations: string, body: string) =>
      Buffer.concat([Buffer.from(`<?xml version="1.0"?>\n<!DOCTYPE svg [${declarations}]>`), drawing(body)]);
    const hostile = [
      declared(`<!ENTITY u "${url}">`, image('&u;')),
      declared('<!ENTITY d "da">\n<!ENTITY\te \'&d;ta:\'>', image(`&e;${url.slice(5)}`)),
      declared(`<!ENTITY x 'http://a'><!ENTITY c '${image(url).replaceAll('"', '&#34;')}'>`, '&c;'),
      declared('<!ENTITY h "http://a&#34; href=&#34;d">', image(`&h;${url.slice(1)}`)),
      declared(`<!ATTLIST image href CDATA "${url}">`, '<image width="8" height="8"/>'.repeat(3)),
      declared(`<!ATTLIST image\n x CDATA "1"\n href CDATA "${url}">`, '<image width="8" height="8"/>'),
    ];
    const inner = `data:image/svg+xml;base64,${hostile[0]!.toString('base64')}`;
    for (const file of [...hostile, gzipSync(hostile[0]!), drawing(image(inner))]) {
      const { message } = await expectCode(() => decode(file, 8), 'MOME_INVALID_IMAGE');
      expect(message, file.toString('latin1')).toMatch(/whose entities are web addresses|no default to href/);
    }
    // The loader knows none of these.
    const parameter = declared(`<!ENTITY % p "<!ENTITY u '${url}'>"> %p;`, image('&u;'));
    await expectCode(() => decode(parameter, 8), 'MOME_INVALID_IMAGE');
    const namespaces =
      '<!ENTITY ns_svg "http://www.w3.org/2000/svg"> <!ENTITY ns_flows \'https://ns.adobe.com/Flows/1.0/\' >';
    const usual = declared(`${namespaces}<!ATTLIST g id ID #IMPLIED>`, '<path xmlns="&ns_svg;" d="M0 0h8v8H0z"/>');
    expect(await decode(usual, 8)).toMatchObject({ width: 8, height: 8 });
  });

  it('loads nothing from outside a drawing', async () => {
    const path = new URL('fixtures/animated.gif', import.meta.url);
    const { data } = await decode(drawing(`<image width="8" height="8" href="${path}"/>`), 8);
    expect(data.every((value) => value === 255)).toBe(true);
    const entity = '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/hostname">]>';
    await expectCode(
      () => decode(Buffer.concat([Buffer.from(entity), drawing('<text>&x;</text>')])),
      'MOME_INVALID_IMAGE',
    );
  });

  it.each<[string, Uint8Array | Promise<Uint8Array>, RegExp]>([
    ['nothing', new Uint8Array(0), /empty file/],
    ['text', Buffer.from('not a picture at all'), /got text$/],
    ['a page', Buffer.from('<!doctype html><title>404</title>'), /got HTML$/],
    ['HEIC', Buffer.from('\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'latin1'), /got HEIC, .*convert it to JPEG/],
    ['BMP', Buffer.from('BM6\0\0\0', 'latin1'), /got BMP; convert it/],
    ['a film', Buffer.from('\0\0\0\x18ftypisom\0\0\0\0', 'latin1'), /got video$/],
    ['another archive', gzipSync('text'), /text|gzip/],
    ['half a PNG', encoded('png').then((bytes) => bytes.subarray(0, 700)), /whole PNG picture/],
    ['PPM', Buffer.from('P6\n2 1\n255\n\xff\0\0\0\xff\0', 'latin1'), /got PPM; convert it/],
    ['plain PGM', Buffer.from('P2 # made by hand\n1 1 255 7'), /got PPM; convert it/],
    ['QOI', Buffer.from('qoif\0\0\0\x01\0\0\0\x01\x04\0', 'latin1'), /got QOI; convert it/],
    ['a TIFF in L*a*b*', labTiff(true), /got a TIFF in CIE L\*a\*b\* colours, .*convert it/],
    ['one of the other byte order', labTiff(false), /got a TIFF in CIE L\*a\*b\* colours, .*convert it/],
    ['half a TIFF', labTiff(true).subarray(0, 30), /whole TIFF picture/],
    ['noise', testImage(1, 8).data, /another kind/],
  ])('says what %s is', async (_, bytes, message) => {
    const error = await expectCode(async () => decode(await bytes), 'MOME_INVALID_IMAGE');
    expect(error.message).toMatch(/^it: expected /);
    expect(error.message).toMatch(message);
  });

  it('gives a coded error or a picture for damaged files', async () => {
    const files = await Promise.all((['png', 'jpeg', 'webp', 'gif'] as const).map(encoded));
    await fc.assert(
      fc.asyncProperty(
        fc.nat(3),
        fc.nat(5000),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        async (which, at, change, cut) => {
          const file = files[which]!;
          const bytes = new Uint8Array(cut ? file.subarray(0, at % file.length) : file);
          if (!cut) bytes[at % bytes.length] = bytes[at % bytes.length]! ^ change;
          try {
            const { data, width, height } = await decode(bytes);
            expect(data.length).toBe(width * height * 3);
          } catch (error) {
            expect(error).toBeInstanceOf(MomeError);
          }
        },
      ),
      { numRuns: 120 },
    );
  });
});
