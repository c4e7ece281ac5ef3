/** Rendered objects of Debian's package sweethome3d-furniture: zip files with a catalogue in Java's properties. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import yauzl from 'yauzl';
import { plainName, withoutNumber } from '../names.mjs';

const catalogue = 'PluginFurnitureCatalog.properties';

/** Properties in Latin-1: `name#1=Wash\u0062asin` gives `['name#1', 'Washbasin']`. */
export function parseProperties(text) {
  const joined = text.replace(/\\\r?\n\s*/g, '');
  const entries = [];
  for (const line of joined.split(/\r?\n/)) {
    const [, key, value] = /^\s*([^#!=:\s][^=:]*?)\s*[=:]\s*(.*)$/.exec(line) ?? [];
    if (key !== undefined)
      entries.push([
        key,
        value.replace(/\\u([0-9a-f]{4})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16))),
      ]);
  }
  return new Map(entries);
}

/** @param debian folder with usr/share of the package */
export async function furniture(debian) {
  const folder = join(debian, 'usr', 'share', 'sweethome3d', 'furniture');
  const drawings = [];
  for (const file of readdirSync(folder)
    .filter((name) => name.endsWith('.sh3f'))
    .sort()) {
    const entries = await readZip(join(folder, file), (name) => name === catalogue || name.endsWith('.png'));
    const properties = parseProperties(entries.get(catalogue).toString('latin1'));
    for (let number = 1; properties.has(`id#${number}`); number++) {
      const get = (key) => properties.get(`${key}#${number}`) ?? '';
      const bytes = entries.get(get('icon').replace(/^\//, ''));
      const name = withoutNumber(plainName(get('name')));
      if (!bytes || name === '') continue;
      const words = [get('category'), ...get('tags').split(',')]
        .map(plainName)
        .filter((word) => word !== '' && word !== name);
      drawings.push({
        set: 'sweethome3d',
        icon: `${file.replace(/\.sh3f$/, '')}/${get('id').split('#').at(-1)}`,
        kind: 'furniture',
        name,
        others: [],
        tags: [...new Set(words)],
        draw: { bytes },
      });
    }
  }
  return drawings;
}

/** Files of a zip whose names are wanted. */
async function readZip(path, wanted) {
  const zip = await new Promise((resolve, reject) =>
    yauzl.open(path, { lazyEntries: true, autoClose: false }, (error, opened) =>
      error ? reject(error) : resolve(opened),
    ),
  );
  const files = new Map();
  await new Promise((resolve, reject) => {
    zip.on('error', reject);
    zip.on('end', resolve);
    zip.on('entry', (entry) => {
      if (!wanted(entry.fileName)) return zip.readEntry();
      zip.openReadStream(entry, async (error, stream) => {
        if (error) return reject(error);
        const parts = [];
        for await (const part of stream) parts.push(part);
        files.set(entry.fileName, Buffer.concat(parts));
        zip.readEntry();
      });
    });
    zip.readEntry();
  });
  zip.close();
  return files;
}
