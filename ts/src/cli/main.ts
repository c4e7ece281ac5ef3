#!/usr/bin/env node
/** The `mome` command. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { packageRoot } from '../runtime/addon.ts';
import { addBench } from './bench.ts';
import { addCheckpointCommands } from './checkpoint-commands.ts';
import { exitCodes, reportFailure } from './context.ts';
import { addDoctor } from './doctor.ts';
import { addExport } from './export.ts';
import { addModelCommands } from './model-commands.ts';
import { addSearch } from './search.ts';
import { addTrainCommands } from './train-commands.ts';

const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string };

const program = new Command('mome')
  .description('VLMo for Node.js: image-text search, fusion re-ranking, visual question answering')
  .version(version)
  .addHelpText(
    'after',
    '\nExit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. MOME_TARGET forces a kernel set.',
  )
  .exitOverride();
addSearch(program);
addModelCommands(program);
addCheckpointCommands(program);
addExport(program);
addTrainCommands(program);
addBench(program);
addDoctor(program);
for (const command of program.commands) command.exitOverride();

// A reader that has seen enough, such as `head`, is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitCodes.ok);
  throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  else process.exitCode = reportFailure(error, process.argv.includes('--json'));
}
