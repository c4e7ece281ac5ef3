/** `mome doctor`. */
import type { Command } from 'commander';
import { diagnose } from '../runtime/doctor.ts';
import { exitCodes, print, printJson } from './output.ts';

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('what this machine offers, and whether the native code runs on it')
    .option('--json', 'print JSON')
    .action(async (flags: { readonly json?: boolean }) => {
      const report = await diagnose();
      if (!report.ok) process.exitCode = exitCodes.failure;
      if (flags.json) return printJson(report);
      for (const { name, ok, detail } of report.checks)
        print(`${ok ? 'ok    ' : 'FAILED'}  ${name.padEnd(14)}  ${detail}`);
    });
}
