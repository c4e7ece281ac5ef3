#!/usr/bin/env node
/** The `mome` command as a process. */
import { guardProcess, reportFailure } from './output.ts';
import { createProgram } from './program.ts';

const json = process.argv.includes('--json');
guardProcess(json);
try {
  await createProgram(json).parseAsync();
} catch (error) {
  process.exitCode = reportFailure(error, json);
}
