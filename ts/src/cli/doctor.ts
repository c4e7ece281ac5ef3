/** `mome doctor`. */
import type { Command } from 'commander';
import { diagnose } from '../runtime/doctor.ts';
import { printableLines } from '../runtime/printable.ts';
import { exitCodes, printJson, printSafe } from './output.ts';
import { styled } from './terminal.ts';

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
        printSafe(
          `${ok ? styled('green', 'ok    ') : styled('red', 'FAILED')}  ${name.padEnd(14)}  ${printableLines(detail)}`,
        );
    });
}
