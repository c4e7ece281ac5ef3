/**
 * Writes the CUDA section of docs/performance.md from the records of scripts/gpu/run.py: the checks, figures and bounds of each GPU, and
 * which kernels have run. The numbers of a record decide whether kernels are right and bounds are met; the record's own verdict does not.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const never = 'never run';
/** Ops of training, for which the CUDA library has no kernel. */
export const notWritten = ['adamw', 'squared_norm'];
const ours = ['mome', 'mome again', 'mome beside compile'];
const peers = ['torch eager', 'torch.compile'];

/**
 * Every op, in the order of the native code.
 *
 * @returns {string[]}
 */
export function opNames() {
  const source = readFileSync(fileURLToPath(new URL('../native/core/ops/table.cc', import.meta.url)), 'utf8');
  return [...source.matchAll(/&(\w+)_op\b/g)].map(([, name]) => name);
}

/**
 * @param {string} folder with the records; records of rehearsals on the emulation are skipped
 * @returns {string} Markdown
 */
export function cudaSection(folder) {
  const records = readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .sort()
    .map((file) => ({ file, record: JSON.parse(readFileSync(join(folder, file), 'utf8')) }))
    .filter(({ record }) => record.table === 'cuda' && record.emulation === false);
  if (records.length === 0) return ['No run on a GPU is recorded.', '', ...kernelLines({})].join('\n');
  return records.map(({ file, record }) => recordLines(file, record).join('\n')).join('\n\n');
}

function recordLines(file, { date, stages, verdicts, bounds }) {
  const { name = 'unknown GPU', driver_version, nvcc, commit, torch } = stages.machine ?? {};
  return [
    `### ${name}`,
    '',
    `\`bench/results/${file}\`, ${date.slice(0, 10)}, commit ${commit ?? 'unknown'}; driver ${driver_version ?? 'unknown'}, nvcc ${nvcc ?? 'absent'}, PyTorch ${torch ?? 'absent'}.`,
    ...ceilingLines(stages.ceilings),
    ...clockLines(stages),
    '',
    ...checkLines(stages, verdicts),
    ...modelLines(stages),
    ...boundLines(bounds ?? []),
    '',
    ...kernelLines(stages),
  ];
}

// ---- what was checked

/** Failures that the content of a stage shows, whatever its verdict. */
const evidence = {
  build: () => false,
  kernels: ({ failed, ops }) => !isEmpty(failed) || Object.values(ops ?? {}).some(hasFailed) || !(total(ops) > 0),
  golden: ({ failed, compared, plantedErrorsNoticed }) =>
    !isEmpty(failed) || !(compared > 0 && plantedErrorsNoticed > 0),
};
const isEmpty = (list) => Object.keys(list ?? {}).length === 0;
const hasFailed = (types) => Object.values(types).some(({ failed }) => failed > 0);
const total = (ops) =>
  Object.values(ops ?? {})
    .flatMap((types) => Object.values(types))
    .reduce((sum, { compared }) => sum + compared, 0);

function checkLines(stages, verdicts) {
  const lines = ['| check | |', '| --- | --- |'];
  for (const name of new Set([...Object.keys(evidence), ...Object.keys(verdicts)])) {
    const stage = stages[name];
    const failed = verdicts[name] === false || (stage && name in evidence && verdicts[name] && evidence[name](stage));
    lines.push(`| ${name} | ${failed ? '**failed**' : verdicts[name] ? 'passed' : never} |`);
  }
  return lines;
}

// ---- what was measured

const three = (value) => (value >= 1000 ? value.toFixed(0) : Number(value.toPrecision(3)).toString());
const milliseconds = ({ fastest, median, slowest }) =>
  [fastest, median, slowest].map((seconds) => three(1000 * seconds)).join(', ');
const isMeasured = (figure) => Number.isFinite(figure?.median);

function ceilingLines(ceilings) {
  const { teraflops, terabytesPerSecond } = ceilings ?? {};
  if (!isMeasured(teraflops) || !isMeasured(terabytesPerSecond)) return [];
  return [
    `PyTorch on this device: ${three(teraflops.median)} TFLOP/s in bfloat16 products of 8,192 cubed, ${three(terabytesPerSecond.median)} TB/s in copies.`,
  ];
}

/** Clocks of each part, and the samples in which something but idleness held them back. */
function clockLines(stages) {
  const parts = Object.entries(stages).flatMap(([name, { clocks }]) => {
    const [least, middle, most] = clocks?.['clocks.sm'] ?? [];
    if (least === undefined) return [];
    const reasons = Object.entries(clocks.throttleReasons ?? {}).filter(([bits]) => Number(bits) > 1);
    const held = reasons.map(
      ([bits, samples]) => `, 0x${Number(bits).toString(16)} in ${samples} of ${clocks.samples}`,
    );
    return [`${name} ${least}, ${middle}, ${most}${held.join('')}`];
  });
  if (parts.length === 0) return [];
  return [`MHz, least, middle, most, and nvidia-smi's reasons for less in how many samples: ${parts.join('; ')}.`];
}

/** The library's best measurement of a shape. It is measured before and after the peers; a slower one was disturbed by other programs. */
function bestOf(entry) {
  const measured = ours.map((name) => entry[name]).filter(isMeasured);
  return measured.sort((a, b) => a.median - b.median)[0];
}

function modelLines({ model, mixed }) {
  const shapes = Object.entries(model ?? {}).filter(([, entry]) => entry?.mome);
  const lines = [];
  if (shapes.length > 0) {
    const header = ['bfloat16', 'ms: fastest, median, slowest', 'per second', 'with two calls under way'];
    const columns = [...header, ...peers.map((peer) => `${peer}: its ms, ratio of medians`)];
    lines.push('', `| ${columns.join(' | ')} |`, `|${' --- |'.repeat(columns.length)}`);
  }
  for (const [shape, entry] of shapes) {
    const best = bestOf(entry);
    const count = Number(shape.split(' ')[1]);
    const overlapped = entry['mome overlapped']?.overlappedPerSecond;
    const cells = [
      best ? milliseconds(best) : '**failed**',
      best ? three(count / best.median) : '',
      overlapped ? three(overlapped) : '',
      ...peers.map((peer) => peerCell(entry[peer], best)),
    ];
    lines.push(`| ${shape} | ${cells.join(' | ')} |`);
  }
  if (isMeasured(mixed?.together) && mixed.apart?.every(isMeasured)) {
    const apart = mixed.apart.reduce((sum, { median }) => sum + median, 0);
    const { median } = mixed.together;
    lines.push(
      '',
      `32 images, 64 texts and 32 pairs in one call take ${three(1000 * median)} ms, in three calls ${three(1000 * apart)} ms: ${(apart / median).toFixed(2)} x.`,
    );
  }
  return lines;
}

function peerCell(peer, best) {
  if (!isMeasured(peer)) return 'not measured';
  const mode = peer.mode === 'compile-default' ? ' (not tuned)' : '';
  return `${milliseconds(peer)}${best ? `; ${(peer.median / best.median).toFixed(2)} x` : ''}${mode}`;
}

function boundLines(bounds) {
  if (bounds.length === 0) return [];
  const lines = ['', '| bound | figure | asked | |', '| --- | --- | --- | --- |'];
  for (const { name, value, bound } of bounds) {
    const figure = value === null ? 'not measured' : three(value);
    lines.push(
      `| ${name} | ${figure} | at least ${bound} | ${value !== null && value >= bound ? 'met' : '**not met**'} |`,
    );
  }
  return lines;
}

// ---- kernel by kernel

function kernelLines({ kernels, model, ops }) {
  const header = [
    'kernel, forward',
    'float32',
    'bfloat16',
    'ms in a call of 64 images',
    'alone: ms',
    'TFLOP/s',
    'ratio to PyTorch',
  ];
  const lines = [`| ${header.join(' | ')} |`, `|${' --- |'.repeat(header.length)}`];
  const inCall = model?.['images 64']?.mome?.nanosecondsByOp ?? {};
  for (const op of opNames()) {
    const counts = kernels?.ops?.[op];
    if (!counts && notWritten.includes(op)) {
      lines.push(`| \`${op}\` | not written | not written | | | | |`);
      continue;
    }
    const alone = ops?.mome?.[op];
    const cells = [
      comparisons(counts?.float32),
      comparisons(counts?.bfloat16),
      inCall[op] === undefined ? '' : three(inCall[op] / 1e6),
      isMeasured(alone) ? three(1000 * alone.median) : '',
      isMeasured(alone) && alone.teraflops > 0 ? three(alone.teraflops) : '',
      isMeasured(alone) && isMeasured(ops.torch?.[op]) ? `${(ops.torch[op].median / alone.median).toFixed(2)} x` : '',
    ];
    lines.push(`| \`${op}\` | ${cells.join(' | ')} |`);
  }
  return lines;
}

function comparisons(count) {
  if (!count?.compared) return never;
  return count.failed > 0 ? `**${count.failed} of ${count.compared} wrong**` : `${count.compared} right`;
}
