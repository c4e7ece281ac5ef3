/**
 * `mome completion`: scripts with which shells complete commands, options and their values. They are made of the commands as they are
 * declared and hold all words, so that a shell need not start mome, and nothing of a line that is being typed is run.
 */
import { Argument, type Command, type Option } from 'commander';
import { commandsOf } from './examples.ts';
import { printSafe } from './output.ts';

const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];

/** A command as scripts know it. */
interface Completed {
  /** Names as one types them, with `mome` before. */
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  readonly options: readonly Option[];
  /** Values that the first argument may have. */
  readonly choices: readonly string[];
}

/** Adds `mome completion`. Called when all other commands have been added. */
export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description('print a script with which a shell completes commands and options')
    .addArgument(new Argument('<shell>', 'which shell it is for').choices(shells))
    .action((shell: Shell) => printSafe(completionScript(program, shell)));
}

/** The script for a shell. */
export function completionScript(program: Command, shell: Shell): string {
  const all = [...commandsOf(program)].map(([path, command]): Completed => {
    const help = command.createHelp();
    return {
      path: command === program ? path : `${program.name()} ${path}`,
      commands: help.visibleCommands(command).map((each) => ({ name: each.name(), description: each.description() })),
      options: help.visibleOptions(command),
      choices: command.registeredArguments[0]?.argChoices ?? [],
    };
  });
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](program.name(), all);
}

/** In single quotes, as all three shells take them; fish needs no more for what descriptions hold. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
const namesOf = ({ short, long }: Option): string[] => [long, short].filter((name) => name !== undefined);
const takesValue = ({ required, optional }: Option): boolean => required || optional;

/** Lines of a `case` over the words behind which a value is typed: one for each option that has choices. */
const valueCases = (
  all: readonly Completed[],
  line: (pattern: string, values: readonly string[]) => string,
): string[] =>
  all.flatMap(({ path, options }) =>
    options
      .filter(({ argChoices }) => argChoices && argChoices.length > 0)
      .map((option) =>
        line(
          namesOf(option)
            .map((name) => quoted(`${path}:${name}`))
            .join('|'),
          option.argChoices!,
        ),
      ),
  );

/** The words behind `mome` that name commands, as a pattern. */
const pathPattern = (name: string, all: readonly Completed[]): string =>
  all
    .filter(({ path }) => path !== name)
    .map(({ path }) => quoted(path))
    .join('|');

function bashScript(name: string, all: readonly Completed[]): string {
  const words = (list: readonly string[]) => quoted(list.join(' '));
  return `# completion of ${name} for bash; in ~/.bashrc: source <(${name} completion bash)
_${name}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} path=${name} words= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path \${COMP_WORDS[i]}" in
      ${pathPattern(name, all)}) path="$path \${COMP_WORDS[i]}" ;;
    esac
  done
  case "$path:$prev" in
${valueCases(all, (pattern, values) => `    ${pattern}) words=${words(values)} ;;`).join('\n')}
    *)
      case "$cur" in
        -*)
          case "$path" in
${all.map(({ path, options }) => `            ${quoted(path)}) words=${words(options.flatMap(namesOf))} ;;`).join('\n')}
          esac
          ;;
        *)
          case "$path" in
${all
  .filter(({ commands, choices }) => commands.length + choices.length > 0)
  .map(
    ({ path, commands, choices }) =>
      `            ${quoted(path)}) words=${words([...commands.map((each) => each.name), ...choices])} ;;`,
  )
  .join('\n')}
          esac
          ;;
      esac
      ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o bashdefault -o default -F _${name} ${name}
`;
}

function zshScript(name: string, all: readonly Completed[]): string {
  const item = (word: string, description: string) => quoted(description === '' ? word : `${word}:${description}`);
  return `#compdef ${name}
# completion of ${name} for zsh; in ~/.zshrc behind compinit: source <(${name} completion zsh)
_${name}() {
  local place=${name} i
  local -a found
  for ((i = 2; i < CURRENT; i++)); do
    case "$place \${words[i]}" in
      (${pathPattern(name, all)}) place="$place \${words[i]}" ;;
    esac
  done
  case "$place:\${words[CURRENT-1]}" in
${valueCases(all, (pattern, values) => `    (${pattern}) found=(${values.map(quoted).join(' ')}) ;;`).join('\n')}
    (*)
      if [[ "\${words[CURRENT]}" == -* ]]; then
        case "$place" in
${all
  .map(
    ({ path, options }) =>
      `          (${quoted(path)}) found=(${options.flatMap((option) => namesOf(option).map((each) => item(each, option.description))).join(' ')}) ;;`,
  )
  .join('\n')}
        esac
      else
        case "$place" in
${all
  .filter(({ commands, choices }) => commands.length + choices.length > 0)
  .map(
    ({ path, commands, choices }) =>
      `          (${quoted(path)}) found=(${[...commands.map((each) => item(each.name, each.description)), ...choices.map(quoted)].join(' ')}) ;;`,
  )
  .join('\n')}
        esac
      fi
      ;;
  esac
  if (( ! $#found )); then
    _files
  elif [[ "\${words[CURRENT]}" == -* ]]; then
    _describe -o ${name} found
  else
    _describe ${name} found
  fi
}
if [[ "\${funcstack[1]}" == _${name} ]]; then
  _${name} "$@"
else
  compdef _${name} ${name}
fi
`;
}

function fishScript(name: string, all: readonly Completed[]): string {
  const lines = all.flatMap(({ path, commands, options, choices }) => {
    const steps = path.split(' ').slice(1);
    const seen = steps.map((step) => `__fish_seen_subcommand_from ${step}`);
    const under = seen.length === 0 ? '__fish_use_subcommand' : seen.join('; and ');
    const names = commands.map((each) => each.name).join(' ');
    const next = seen.length === 0 || names === '' ? under : `${under}; and not __fish_seen_subcommand_from ${names}`;
    const line = (condition: string, rest: string) => `complete -c ${name} -n ${quoted(condition)} ${rest}`;
    return [
      ...commands.map((each) => line(next, `-f -a ${quoted(each.name)} -d ${quoted(each.description)}`)),
      ...(choices.length > 0 ? [line(under, `-f -a ${quoted(choices.join(' '))}`)] : []),
      ...options.map((option) => {
        const values = option.argChoices ?? [];
        return line(
          commands.length > 0 ? next : under,
          [
            ...(option.long ? [`-l ${option.long.slice(2)}`] : []),
            ...(option.short ? [`-s ${option.short.slice(1)}`] : []),
            ...(values.length > 0 ? [`-x -a ${quoted(values.join(' '))}`] : takesValue(option) ? ['-r'] : []),
            `-d ${quoted(option.description)}`,
          ].join(' '),
        );
      }),
    ];
  });
  return `# completion of ${name} for fish: ${name} completion fish > ~/.config/fish/completions/${name}.fish\n${lines.join('\n')}\n`;
}
