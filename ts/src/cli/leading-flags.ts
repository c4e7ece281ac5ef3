/** Options before a command's name: those that nearly every command has work there too, and of the others a message says where they go. */
import type { Command } from 'commander';
import { MomeError } from '../runtime/errors.ts';

/** Options without a value, by the names commands know them by. */
const shared = [
  ['json', 'print JSON'],
  ['quiet', 'no progress on standard error'],
] as const;

/**
 * Lets `mome --json search` mean `mome search --json`, also between `eval` and its commands. A command without such an option leaves it
 * aside. Called when all commands have been added.
 */
export function takeLeadingFlags(program: Command): void {
  for (const group of [program, ...program.commands].filter(({ commands }) => commands.length > 0)) {
    group.enablePositionalOptions();
    for (const [name, description] of shared) group.option(`--${name}`, description);
    group.exitOverride((error) => {
      const option = /unknown option '([^']+)'/.exec(error.message)?.[1];
      if (error.code !== 'commander.unknownOption' || option === undefined) throw error;
      throw new MomeError(
        'MOME_INVALID_ARGUMENT',
        `expected a command before its options, got '${option}'; it goes behind the command, as in ${pathOf(group)} <command> ${option}`,
      );
    });
    group.hook('preAction', (_, command) => {
      for (const [name] of shared) if (group.getOptionValue(name) === true) command.setOptionValue(name, true);
    });
  }
}

/** "mome", or "mome eval". */
function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();
}
