/** `mome inspect`, `convert` and `verify`: explain a file, convert it, and check its numbers. */
import type { Command } from 'commander';
import { presets, type VlmoConfig } from '../architecture/config.ts';
import { type CheckpointReport, convertCheckpoint, inspectCheckpoint } from '../checkpoint/index.ts';
import { type Ability, abilities, abilitiesOf, missingOfEncoder } from '../inference/abilities.ts';
import { type DType, dtypes } from '../runtime/addon.ts';
import type { DeviceName } from '../runtime/device.ts';
import { check } from '../runtime/errors.ts';
import { printable } from '../runtime/printable.ts';
import { verifyCase } from '../verify/index.ts';
import { dtypeOf, wholeNumber } from './context.ts';
import { exitCodes, print, printJson } from './output.ts';
import { printTable } from './table.ts';

export function addCheckpointCommands(program: Command): void {
  program
    .command('inspect')
    .description('explain a checkpoint or model folder: format, sizes, what is missing or unexpected')
    .argument('<path>')
    .option('--tensors', 'list every tensor')
    .option('--json', 'print JSON')
    .action(inspect);
  program
    .command('convert')
    .description('write any checkpoint as a model folder: safetensors, config.json, vocabulary')
    .argument('<checkpoint>')
    .argument('<folder>')
    .option('--dtype <type>', `weights: ${dtypes.join(', ')}`, dtypeOf, 'float32')
    .option('--preset <name>', `sizes, when the file does not tell: ${Object.keys(presets).join(', ')}`)
    .option('--image-size <pixels>', 'take positions to another picture size', wholeNumber)
    .option('--max-text-length <tokens>', 'cut the text positions', wholeNumber)
    .option('--json', 'print JSON')
    .action(convert);
  program
    .command('verify')
    .description(
      'compare with a recorded reference case; exit 0 only if all of it passed, but for what is listed as skipped',
    )
    .argument('<case>', 'folder of the case')
    .option('--device <name>', 'cpu, cuda or cuda:<index>; losses, gradients and training are skipped on CUDA', 'cpu')
    .option(
      '--dtype <type>',
      `weights: ${dtypes.join(', ')}; losses, gradients and training are skipped but in float32`,
      dtypeOf,
      'float32',
    )
    .option(
      '--target <name>',
      'kernel set, such as ref, avx2 or neon (mome doctor lists those of this processor); default: the fastest',
    )
    .option('--json', 'print JSON')
    .action(verify);
}

/** Commands and calls by what a model needs for them. */
const callsOf: Readonly<Record<Ability, string>> = {
  embed: 'search and embed',
  match: 'match and re-ranking',
  answer: 'answer',
  reason: 'reason',
  fillMask: 'fill-mask',
};

/** What the parameters of a file serve: heads that are not there are no fault, and leave calls out. */
function servedBy(config: VlmoConfig, missing: readonly string[]) {
  const needed = missingOfEncoder(config, missing);
  const own = needed.length === 0 ? abilitiesOf(config, missing) : new Set<Ability>();
  return {
    needed,
    serves: abilities.filter((ability) => own.has(ability)),
    lacks: abilities.filter((ability) => !own.has(ability)),
  };
}

const callNames = (list: readonly Ability[]): string =>
  list.length === 0 ? 'nothing' : list.map((ability) => callsOf[ability]).join(', ');

async function inspect(path: string, flags: { readonly json?: boolean; readonly tensors?: boolean }): Promise<void> {
  const report = await inspectCheckpoint(path);
  const serves = report.config && report.kind === 'vlmo' ? servedBy(report.config, report.missing).serves : [];
  if (flags.json) return printJson({ ...report, serves });
  print(describe(report));
  if (flags.tensors)
    printTable(
      ['tensor', 'type', 'shape'],
      report.entries.map(({ name, dtype, shape }) => [printable(name), dtype, `[${shape.join(', ')}]`]),
      { shorten: 'tensor' },
    );
}

function describe(report: CheckpointReport): string {
  const { config } = report;
  const some = (names: readonly string[]) =>
    names.length === 0 ? 'none' : `${names.length}: ${names.slice(0, 6).join(', ')}${names.length > 6 ? ', ...' : ''}`;
  const rows: [string, string][] = [
    ['file', report.path],
    [
      'format',
      `${report.format}${report.wrapper ? `, under "${report.wrapper}"` : ''}${report.prefix ? `, names after "${report.prefix}"` : ''}`,
    ],
    ['model', report.kind],
    ['tensors', `${report.tensors} of ${report.types.join(', ')}, ${(report.values / 1e6).toFixed(2)} M values`],
  ];
  if (config) {
    rows.push([
      'sizes',
      `width ${config.width}, ${config.layers} layers, ${config.heads} heads, VL experts from layer ${config.firstVlLayer} (from ${report.configFrom})`,
    ]);
    rows.push([
      'pictures',
      `${config.imageSize} pixels in patches of ${config.patchSize}, ${config.positions} positions`,
    ]);
    rows.push(['texts', `${config.maxTextLength} tokens of ${config.vocabularySize} word pieces`]);
  }
  if (report.problem) rows.push(['problem', report.problem]);
  if (config && report.kind === 'vlmo') {
    const { needed, serves, lacks } = servedBy(config, report.missing);
    rows.push(['serves', callNames(serves)]);
    if (lacks.length > 0 && needed.length === 0) rows.push(['without', `heads for ${callNames(lacks)}`]);
    rows.push(['missing', some(needed)]);
  } else rows.push(['missing', some(report.missing)]);
  rows.push(['unexpected', some(report.unexpected)], ['beside them', some(report.otherKeys)]);
  for (const note of report.notes) rows.push(['note', note]);
  return rows.map(([name, value]) => `${name.padEnd(12)}${printable(value)}`).join('\n');
}

interface ConvertFlags {
  readonly dtype: DType;
  readonly preset?: string;
  readonly imageSize?: number;
  readonly maxTextLength?: number;
  readonly json?: boolean;
}

async function convert(checkpoint: string, folder: string, flags: ConvertFlags): Promise<void> {
  const { dtype, preset } = flags;
  check(
    preset === undefined || Object.hasOwn(presets, preset),
    'MOME_INVALID_ARGUMENT',
    `convert: expected a preset of ${Object.keys(presets).join(', ')}, got ${preset}`,
  );
  const result = await convertCheckpoint(checkpoint, folder, {
    dtype,
    ...(preset !== undefined && { config: presets[preset as keyof typeof presets] }),
    ...(flags.imageSize !== undefined && { imageSize: flags.imageSize }),
    ...(flags.maxTextLength !== undefined && { maxTextLength: flags.maxTextLength }),
  });
  if (flags.json) return printJson({ folder, ...result, serves: servedBy(result.config, result.missing).serves });
  print(`wrote ${result.parameters} parameters to ${folder}`);
  for (const note of result.notes) print(`note: ${note}`);
  const { needed, serves, lacks } = servedBy(result.config, result.missing);
  if (needed.length > 0) print(`missing ${needed.length}: ${needed.join(', ')}`);
  else print(`serves ${callNames(serves)}${lacks.length > 0 ? `; has no heads for ${callNames(lacks)}` : ''}`);
  if (result.unexpected.length > 0) print(`left out ${result.unexpected.length}: ${result.unexpected.join(', ')}`);
}

async function verify(
  folder: string,
  flags: { readonly device: string; readonly dtype: DType; readonly target?: string; readonly json?: boolean },
): Promise<void> {
  const report = await verifyCase(folder, {
    device: flags.device as DeviceName,
    dtype: flags.dtype,
    ...(flags.target !== undefined && { target: flags.target }),
  });
  if (!report.passed) process.exitCode = exitCodes.failure;
  if (flags.json) return printJson(report);
  const failed = report.checks.filter(({ passed }) => !passed);
  for (const { name, kind, maxAbs, relL2, cosine, bound, worst } of failed) {
    print(
      `FAILED ${name}: element ${worst.index} is ${worst.actual}, expected ${worst.expected}; ` +
        `max abs ${maxAbs.toExponential(2)}, rel L2 ${relL2.toExponential(2)} (${kind === 'output' && report.dtype !== 'float32' ? 'cosine ' : ''}bound ${bound}), cosine ${cosine.toFixed(6)}`,
    );
  }
  const kinds = [...new Set(report.checks.map(({ kind }) => kind))];
  printTable(
    ['kind', 'compared', 'worst rel L2', 'max abs'],
    kinds.map((kind) => {
      const of = report.checks.filter((each) => each.kind === kind);
      return [
        kind,
        of.length,
        Math.max(...of.map(({ relL2 }) => relL2)).toExponential(2),
        Math.max(...of.map(({ maxAbs }) => maxAbs)).toExponential(2),
      ];
    }),
  );
  for (const { kind, tensors, reason } of report.skipped) {
    print(`skipped ${tensors} ${kind} ${tensors === 1 ? 'tensor' : 'tensors'}: ${reason}`);
  }
  print(
    `${report.passed ? 'passed' : 'FAILED'}: ${report.case} on ${report.device}, ${report.target}, in ${report.dtype}, ${report.compared} compared, ${report.failed} failed`,
  );
}
