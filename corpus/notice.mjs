/**
 * Writes who made what the shipped model was trained on into NOTICE.md, from the packages' own metadata and the counts of a built corpus.
 *
 *   node corpus/notice.mjs [--corpus out/corpus] [--packages corpus/node_modules] [--notice NOTICE.md]
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readJson } from './files.mjs';
import { withNotice } from './notice-table.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const { values } = parseArgs({
  options: {
    corpus: { type: 'string', default: join(root, 'out', 'corpus') },
    packages: { type: 'string', default: join(here, 'node_modules') },
    notice: { type: 'string', default: join(root, 'NOTICE.md') },
  },
});
const { counts } = readJson(join(values.corpus, 'corpus.json'));
const collections = readJson(join(values.packages, '@iconify', 'json', 'collections.json'));
const packageOf = (name) => readJson(join(values.packages, ...name.split('/'), 'package.json'));
const text = withNotice(readFileSync(values.notice, 'utf8'), counts, collections, packageOf);
writeFileSync(values.notice, text);
