/** The `mome` command with all its commands, which no process has begun to parse. */
import { Command } from 'commander';
import { packageVersion } from '../runtime/package-files.ts';
import { addBench } from './bench.ts';
import { addCheckpointCommands } from './checkpoint-commands.ts';
import { addCompletion } from './completion.ts';
import { addDoctor } from './doctor.ts';
import { addEmbed } from './embed.ts';
import { addEvalCommands } from './eval-commands.ts';
import { addExamples } from './examples.ts';
import { addExport } from './export.ts';
import { takeLeadingFlags } from './leading-flags.ts';
import { addModelCommands } from './model-commands.ts';
import { addModels } from './models.ts';
import { addSearch } from './search.ts';
import { addServe } from './serve.ts';
import { addTrainCommands } from './train-commands.ts';

/** @param json whether failures are printed as JSON, and the usage is not printed with them */
export function createProgram(json = false): Command {
  // Commands that are added take over how this one ends and prints.
  const program = new Command('mome')
    .description('VLMo for Node.js: image-text search, fusion re-ranking, visual question answering')
    .version(packageVersion())
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
  addCompletion(program);
  takeLeadingFlags(program);
  addExamples(program);
  program.addHelpText(
    'after',
    '\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 done but for pictures that could not be read, 130 interrupted.\nWith --json errors are JSON too. NO_COLOR and FORCE_COLOR are kept. MOME_TARGET forces a kernel set.',
  );
  return program;
}
