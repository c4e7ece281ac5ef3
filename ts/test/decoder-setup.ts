/**
 * Tests of ts/src start decoder processes and a reader thread from dist, and serve the page from there: builds it anew where it is missing or
 * older than their sources.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const changed = (path: string) => statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;

export default function setup(): void {
  const sources = ['ts/src/image', 'ts/src/runtime'].flatMap((folder) =>
    readdirSync(join(root, folder)).map((name) => changed(join(folder, name))),
  );
  const reader = ['parquet-reader', 'parquet-file'].map((name) => changed(`ts/src/train/data/${name}.ts`));
  const page = readdirSync(join(root, 'ts/src/serve/page/browser')).map((name) =>
    changed(join('ts/src/serve/page/browser', name)),
  );
  const isNew =
    changed('dist/decoder.mjs') > Math.max(...sources) &&
    changed('dist/parquet-reader.mjs') > Math.max(...reader) &&
    changed('dist/page/page.js') > Math.max(...page);
  if (isNew) return;
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'scripts', 'build-ts.mjs')], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`dist could not be built:\n${stderr}`);
}
