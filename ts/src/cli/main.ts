#!/usr/bin/env node
/** The `mome` command. */
import { Command } from 'commander';
import { packageVersion } from '../runtime/package-files.ts';
import { addBench } from './bench.ts';
import { addCheckpointCommands } from './checkpoint-commands.ts';
import { addDoctor } from './doctor.ts';
import { addEmbed } from './embed.ts';
import { addEvalCommands } from './eval-commands.ts';
import { addExport } from './export.ts';
import { takeLeadingFlags } from './leading-flags.ts';
import { addModelCommands } from './model-commands.ts';
import { addModels } from './models.ts';
import { guardProcess, reportFailure } from './output.ts';
import { addSearch } from './search.ts';
import { addServe } from './serve.ts';
import { addTrainCommands } from './train-commands.ts';

const json = process.argv.includes('--json');
guardProcess(json);

// Commands that are added take over how this one ends and prints.
const program = new Command('mome')
  .description('VLMo for Node.js: image-text search, fusion re-ranking, visual question answering')
  .version(packageVersion())
  .addHelpText(
    'after',
    '\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 done but for pictures that could not be read, 130 interrupted. With --json errors are JSON too. MOME_TARGET forces a kernel set.',
  )
  .exitOverride()
  .configureOutput({ outputError: () => {}, ...(json && { writeErr: () => {} }) });
addSearch(program);
addEmbed(program);
addModelCommands(program);
addCheckpointCommands(program);
addModels(program);
addExport(program);
addTrainCommands(program);
addEvalCommands(program);
addServe(program);
addBench(program);
addDoctor(program);
takeLeadingFlags(program);

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = reportFailure(error, json);
}
