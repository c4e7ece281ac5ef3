/**
 * Builds, checks and packs everything that is published, under out/release: the main package, a package for each platform that is built
 * (ts/src/runtime/platforms.json) and that this machine has a compiler for, a bill of materials, and checksums. Nothing in the clone but `dist`
 * changes.
 *
 *   npm run release:pack               build, check, pack
 *   npm run release:pack -- --install  then install the tarballs in a fresh folder without scripts, and search there
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { addonProblems, contentProblems, oldestGlibc } from './checks.mjs';
import { canBuild, crossCompilers } from './cross.mjs';
import { manifest, platforms, stageMain } from './stage.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const require = createRequire(import.meta.url);
const out = join(root, 'out', 'release');
const stage = join(out, 'stage');
const tarballs = join(out, 'packages');
const published = platforms.filter(({ state }) => state === 'built');
const built = published.filter(canBuild);

const say = (text) => process.stderr.write(`mome: ${text}\n`);
const writeJson = (path, value) => writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);

function check(problems, what) {
  if (problems.length > 0) throw new Error(`${what}:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
}

function run(command, args, cwd = root) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 2 ** 26 });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${stdout}\n${stderr}`);
  return stdout;
}

/** Fields that all packages share. */
function shared() {
  const { version, license, author, repository, homepage, bugs, engines } = manifest;
  return { version, license, author, repository, homepage, bugs, engines };
}

/** A platform package: its prebuilt addon where node-gyp-build finds it. @returns its folder */
async function stagePlatform({ package: name, os, cpu, libc, needs }) {
  const prebuildify = require('prebuildify');
  const work = join(out, 'prebuild');
  mkdirSync(work, { recursive: true });
  rmSync(join(work, 'prebuilds'), { recursive: true, force: true });
  const nodeGyp = join(root, 'scripts', 'release', 'node-gyp.mjs');
  const options = {
    cwd: work,
    name: 'mome',
    napi: true,
    arch: cpu,
    strip: true,
    stripBin: cpu === process.arch ? 'strip' : `${crossCompilers[cpu].prefix}strip`,
    tagLibc: libc,
    nodeGyp,
    targets: [],
    quiet: false,
  };
  await new Promise((resolve, reject) => prebuildify(options, (error) => (error ? reject(error) : resolve())));
  const folder = join(stage, name);
  mkdirSync(folder, { recursive: true });
  cpSync(join(work, 'prebuilds'), join(folder, 'prebuilds'), { recursive: true });
  for (const file of ['LICENSE', 'NOTICE.md']) cpSync(join(root, file), join(folder, file));
  writeFileSync(
    join(folder, 'README.md'),
    `# ${name}\n\nThe native addon of [mome](${manifest.homepage}) for ${needs}. Install \`mome\`, which brings it.\n`,
  );
  writeJson(join(folder, 'package.json'), {
    name,
    description: `The native addon of mome for ${needs}`,
    ...shared(),
    os: [os],
    cpu: [cpu],
    libc: [libc],
    files: ['prebuilds', 'NOTICE.md'],
    preferUnplugged: true,
  });
  check(
    readdirSync(join(folder, 'prebuilds'), { recursive: true })
      .filter((file) => file.endsWith('.node'))
      .flatMap((file) => addonProblems(join(folder, 'prebuilds', file))),
    `${name} is for glibc ${oldestGlibc}, and asks for more`,
  );
  return folder;
}

/** @returns the tarball's path */
function pack(folder) {
  const [{ filename, files, unpackedSize, size }] = JSON.parse(
    run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', tarballs], folder),
  );
  const packed = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  if (packed.name === 'mome')
    check(
      contentProblems(
        files.map(({ path }) => path),
        packed,
      ),
      'mome is not as it should be',
    );
  const megabytes = (bytes) => (bytes / 2 ** 20).toFixed(1);
  say(
    `${packed.name}@${packed.version}: ${files.length} files, ${megabytes(size)} MB packed, ${megabytes(unpackedSize)} MB unpacked`,
  );
  return join(tarballs, filename);
}

/** publint reads what package managers do with a package, attw what TypeScript does. */
function checkTypes(tarball) {
  const bin = (name, path) => join(dirname(require.resolve(`${name}/package.json`)), path);
  const publint = join(root, 'node_modules', 'publint', 'src', 'cli.js');
  run(process.execPath, [publint, 'run', '--strict', tarball]);
  run(process.execPath, [bin('@arethetypeswrong/cli', 'dist/index.js'), tarball, '--no-emoji']);
}

/** What the package brings along, as CycloneDX. npm calls a project by the name of its folder. */
function billOfMaterials() {
  const folder = join(out, 'bill', manifest.name);
  mkdirSync(folder, { recursive: true });
  for (const file of ['package.json', 'package-lock.json']) cpSync(join(root, file), join(folder, file));
  const flags = ['--sbom-format', 'cyclonedx', '--sbom-type', 'library', '--omit', 'dev', '--package-lock-only'];
  return run('npm', ['sbom', ...flags], folder);
}

function writeSums() {
  const files = readdirSync(tarballs).filter((name) => name !== 'SHA256SUMS');
  const lines = files.sort().map((name) => {
    const sum = createHash('sha256')
      .update(readFileSync(join(tarballs, name)))
      .digest('hex');
    return `${sum}  ${name}\n`;
  });
  writeFileSync(join(tarballs, 'SHA256SUMS'), lines.join(''));
}

/** A fresh folder, no compiler on the path, no scripts: what a user's first minute is. */
function install(files) {
  const folder = mkdtempSync(join(tmpdir(), 'mome-release-'));
  try {
    writeJson(join(folder, 'package.json'), { name: 'user', private: true });
    const started = performance.now();
    run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', ...files], folder);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    const { packages } = JSON.parse(readFileSync(join(folder, 'node_modules', '.package-lock.json'), 'utf8'));
    say(`installed ${Object.keys(packages).length} packages in ${seconds} s`);
    const env = { PATH: dirname(process.execPath), HOME: folder };
    const node = (args) => execFileSync(process.execPath, args, { cwd: folder, encoding: 'utf8', env });
    const pictures = join(folder, 'node_modules', 'mome', 'docs', 'pictures');
    const found = node(['node_modules/mome/dist/cli.mjs', 'search', pictures, 'a rocket', '-k', '1']);
    if (!/rocket/.test(found)) throw new Error(`expected the search to find the rocket, got ${found}`);
    const load = `const { Vlmo } = require('mome'); Vlmo.load().then(async (vlmo) => { console.log(vlmo.target); await vlmo.dispose(); });`;
    say(`loaded and searched there, with kernels for ${node(['-e', load]).trim()}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function main() {
  if (built.length === 0) throw new Error(`no platform package is built on ${process.platform}-${process.arch}`);
  for (const folder of [stage, tarballs]) rmSync(folder, { recursive: true, force: true });
  mkdirSync(tarballs, { recursive: true });
  say('building dist');
  run(process.execPath, ['scripts/build-ts.mjs']);
  const folders = [];
  for (const platform of built) {
    say(`building ${platform.package}`);
    folders.push(await stagePlatform(platform));
  }
  folders.push(stageMain(join(stage, 'mome')));
  const files = folders.map(pack);
  say('checking what package managers and TypeScript see');
  checkTypes(files.at(-1));
  writeFileSync(join(tarballs, 'sbom.cdx.json'), billOfMaterials());
  writeSums();
  for (const { package: name, state } of platforms) if (state !== 'built') say(`${name}: ${state}`);
  for (const { package: name, cpu } of published.filter((platform) => !built.includes(platform)))
    say(`${name}: left out, there is no compiler for it here (Debian: ${crossCompilers[cpu]?.packages ?? 'g++'})`);
  // npm refuses a package of another processor that is asked for by itself.
  const fits = (place) => place >= built.length || built[place].cpu === process.arch;
  if (process.argv.includes('--install')) install(files.filter((_, place) => fits(place)));
  say(`packed into ${tarballs}`);
}

try {
  await main();
} catch (error) {
  say(error.message);
  process.exit(1);
}
