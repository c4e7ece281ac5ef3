/** `mome export`: the model for other runtimes. */
import { type Command, Option } from 'commander';
import { exportOnnx, type OnnxExport } from '../export/onnx.ts';
import { type OnnxFunctionName, onnxFunctionNames } from '../export/onnx-functions.ts';
import { interruption, wholeNumber } from './context.ts';
import { print, printJson } from './output.ts';
import { printTable } from './table.ts';
import { progressBar } from './terminal.ts';

interface ExportFlags {
  readonly model?: string;
  readonly output: string;
  readonly only?: readonly OnnxFunctionName[];
  readonly imageSize?: number;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export function addExport(program: Command): void {
  program
    .command('export')
    .description('write the model for other runtimes: image, text and fusion encoder as ONNX files')
    .requiredOption('-o, --output <folder>', 'folder to write to')
    .option('-m, --model <path>', 'model folder or checkpoint; default: the model that ships with mome')
    .option('--onnx', 'the format, which need not be named: there is no other')
    .addOption(new Option('--only <function...>', 'some of the functions').choices(onnxFunctionNames))
    .option('--image-size <pixels>', 'take positions to another picture size', wholeNumber)
    .option('--json', 'print JSON')
    .option('--quiet', 'no progress on standard error')
    .action(run);
}

async function run(flags: ExportFlags): Promise<void> {
  const progress = progressBar('exporting', flags.quiet);
  try {
    const result = await exportOnnx(flags.model, flags.output, {
      ...(flags.only && { only: flags.only }),
      ...(flags.imageSize !== undefined && { imageSize: flags.imageSize }),
      signal: interruption(),
      onProgress: progress.update,
    });
    progress.stop();
    if (flags.json) return printJson(result);
    describe(result);
  } finally {
    progress.stop();
  }
}

function describe({ folder, functions, weights, weightBytes, leftOut }: OnnxExport): void {
  const value = ({ name, type, shape }: { name: string; type: string; shape: readonly unknown[] }) =>
    `${name} ${type} [${shape.join(', ')}]`;
  printTable(
    ['file', 'inputs', 'outputs'],
    functions.map(({ file, inputs, outputs }) => [file, inputs.map(value).join('\n'), outputs.map(value).join('\n')]),
    { wrap: 'outputs' },
  );
  print(
    `wrote ${functions.length + 1} files to ${folder}; ${weights} holds ${(weightBytes / 1e6).toFixed(1)} MB for all`,
  );
  for (const { name, missing } of leftOut) print(`left out ${name}: the model has no ${missing.join(', ')}`);
}
