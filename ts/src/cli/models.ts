/** `mome pull` and `mome models`: official models by name. */
import type { Command } from 'commander';
import { listModels, pullModel, removeModel } from '../registry/index.ts';
import { interruption } from './context.ts';
import { note, print, printJson } from './output.ts';
import { printTable } from './table.ts';
import { progressBar } from './terminal.ts';

export function addModels(program: Command): void {
  program
    .command('pull')
    .description('download an official model by name and convert it; Ctrl-C keeps what has come')
    .argument('<name>', 'as "mome models" lists it')
    .option('--json', 'print JSON')
    .option('--quiet', 'no progress on standard error')
    .addHelpText(
      'after',
      '\nMOME_CACHE is the folder for models, MOME_MIRROR the address of a folder with the same file names, MOME_OFFLINE=1 forbids downloads.\nHTTP_PROXY, HTTPS_PROXY and NO_PROXY are kept.\n\nExample: mome pull vlmo-base-coco && mome search photos "a dog in the snow" -m vlmo-base-coco',
    )
    .action(pullCommand);
  const models = program
    .command('models')
    .description('list official models: which are there, which can be had, their sizes')
    .action(list); // takeLeadingFlags gives --json to commands that have commands.
  models
    .command('remove')
    .description('remove a downloaded model')
    .argument('<name>')
    .option('--json', 'print JSON')
    .action(remove);
}

async function pullCommand(
  name: string,
  { json, quiet }: { readonly json?: boolean; readonly quiet?: boolean },
): Promise<void> {
  const bar = progressBar(name, quiet);
  let path: string;
  try {
    path = await pullModel(name, {
      signal: interruption(),
      onProgress: (_, done, total) => bar.update(Math.floor(done / 2 ** 20), Math.ceil(total / 2 ** 20)),
    });
  } finally {
    bar.stop();
  }
  if (json) printJson({ name, path });
  else print(path);
}

async function list({ json }: { readonly json?: boolean }): Promise<void> {
  const entries = await listModels();
  if (json) return printJson(entries);
  printTable(
    ['model', 'here', 'size', 'for'],
    entries.map(({ name, path, bytes, aboutBytes, description }) => [
      name,
      path ? 'yes' : bytes > 0 ? 'in part' : 'no',
      path || bytes > 0 ? sizeText(bytes) : `about ${sizeText(aboutBytes)}`,
      description,
    ]),
    { wrap: 'for', leaveOut: ['size', 'here'] },
  );
}

async function remove(name: string, _: unknown, command: Command): Promise<void> {
  const bytes = await removeModel(name, { signal: interruption() });
  if (command.optsWithGlobals().json) printJson({ name, bytes });
  else note(`removed ${name}, ${sizeText(bytes)}`);
}

const sizeText = (bytes: number): string =>
  bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.ceil(bytes / 1e6)} MB`;
