/** Completion in shells, and the examples of every help. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { completionScript } from '../../src/cli/completion.ts';
import { commandsOf, examples } from '../../src/cli/examples.ts';
import { createProgram } from '../../src/cli/program.ts';
import { unknownOptions } from '../docs/blocks.ts';
import { temporaryFolder } from '../helpers.ts';

const program = createProgram();
/** What is typed, and what a shell must and must not offer for its last word. */
const cases: readonly { readonly line: string; readonly offers: readonly string[] }[] = [
  { line: 'mome se', offers: ['search', 'serve'] },
  { line: 'mome search --ht', offers: ['--html'] },
  { line: 'mome embed --format ', offers: ['csv', 'json', 'jsonl', 'npy', 'parquet'] },
  { line: 'mome embed -t a --format j', offers: ['json', 'jsonl'] },
  { line: 'mome eval re', offers: ['retrieval'] },
  { line: 'mome eval retrieval --rule ', offers: ['fused', 'original'] },
  { line: 'mome models rem', offers: ['remove'] },
  { line: 'mome completion ', offers: ['bash', 'fish', 'zsh'] },
  { line: 'mome search my', offers: ['mypictures/'] },
];

async function folderWithPictures(): Promise<string> {
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'mypictures'));
  return folder;
}

function run(shell: string, script: string, cwd: string): string {
  const { status, stdout, stderr } = spawnSync(shell, ['-c', script], { encoding: 'utf8', cwd });
  expect([status, stderr]).toEqual([0, '']);
  return stdout;
}

const found = (shell: string) =>
  ['/usr/bin', '/bin', '/usr/local/bin'].some((folder) => existsSync(join(folder, shell)));

describe('completion', () => {
  it('in bash offers commands, options and values, and otherwise files', async () => {
    const folder = await folderWithPictures();
    await writeFile(join(folder, 'mome.bash'), completionScript(program, 'bash'));
    for (const { line, offers } of cases) {
      const words = line.split(' ').map((word) => `'${word}'`);
      const script = `. ./mome.bash; COMP_WORDS=(${words.join(' ')}); COMP_CWORD=${words.length - 1}; _mome; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const offered = run('bash', script, folder).trim().split('\n').sort();
      // Files come from readline, where the function has nothing to offer.
      expect([line, offered]).toEqual([line, offers[0] === 'mypictures/' ? [''] : offers]);
    }
    expect(run('bash', '. ./mome.bash; complete -p mome', folder)).toContain('-o default');
  });

  it('in bash runs nothing of the line that is typed', async () => {
    const folder = await folderWithPictures();
    await writeFile(join(folder, 'mome.bash'), completionScript(program, 'bash'));
    const script =
      ". ./mome.bash; COMP_WORDS=(mome '$(touch hit)' '`touch hit`' '*' '$(touch hit)'); COMP_CWORD=4; _mome; ls";
    expect(run('bash', script, folder)).toBe('mome.bash\nmypictures\n');
  });

  it.skipIf(!found('fish'))('in fish offers the same', async () => {
    const folder = await folderWithPictures();
    await writeFile(join(folder, 'mome.fish'), completionScript(program, 'fish'));
    for (const { line, offers } of cases) {
      const out = run('fish', `source mome.fish; complete -C '${line}'`, folder).trim().split('\n');
      expect([line, out.map((each) => each.split('\t')[0]).sort()]).toEqual([line, offers]);
    }
  });

  it.skipIf(!found('zsh'))('in zsh offers the same', async () => {
    const folder = await folderWithPictures();
    await writeFile(join(folder, 'mome.zsh'), completionScript(program, 'zsh'));
    for (const { line, offers } of cases) {
      const words = line.split(' ').map((word) => `'${word}'`);
      // The functions of the completion system, as far as the script calls them.
      const script = [
        `compdef() { : }; _files() { print -rl -- \${words[CURRENT]}*(/) }`,
        `_describe() { local w; for w in \${(P)@[-1]}; do w=\${w%%:*}; [[ $w == \${words[CURRENT]}* ]] && print -r -- $w; done; true }`,
        'source ./mome.zsh',
        `words=(${words.join(' ')}); CURRENT=$#words; _mome`,
      ].join('\n');
      const offered = run('zsh', script, folder).trim().split('\n').sort();
      const expected = offers[0] === 'mypictures/' ? ['mypictures'] : offers;
      expect([line, offered.map((each) => each.replace(/\/$/, ''))]).toEqual([line, expected]);
    }
  });

  it('is printed by the command, and refuses other shells', async () => {
    const bin = join(await temporaryFolder(), 'mome');
    await writeFile(bin, `#!/bin/sh\nexec "${process.execPath}" "${join(process.cwd(), 'dist/cli.mjs')}" "$@"\n`);
    await chmod(bin, 0o755);
    const printed = spawnSync(bin, ['completion', 'bash'], { encoding: 'utf8' });
    expect([printed.status, printed.stdout]).toEqual([0, completionScript(program, 'bash')]);
    expect(spawnSync(bin, ['completion', 'tcsh']).status).toBe(2);
  });
});

describe('the help', () => {
  const commands = commandsOf(program);

  it('has two to four examples for every command, and none for others', () => {
    expect([...commands.keys()].filter((path) => !(path in examples))).toEqual([]);
    expect(Object.keys(examples).filter((path) => !commands.has(path))).toEqual([]);
    for (const [path, list] of Object.entries(examples)) {
      expect([path, list.length >= 2 && list.length <= 4]).toEqual([path, true]);
      let shown = '';
      commands
        .get(path)!
        .configureOutput({ writeOut: (text) => (shown += text) })
        .outputHelp();
      expect(shown).toContain(`Examples:\n  ${list[0]![0]}`);
    }
  });

  it('shows options that the commands have', () => {
    const helpOf = (words: string) => {
      if (words.startsWith('help')) return '';
      const command = commands.get(words) ?? commands.get(words.split(' ')[0]!);
      if (!command) throw new Error(`expected a command of mome, got ${words}`);
      return command.helpInformation();
    };
    for (const [path, list] of Object.entries(examples))
      for (const [line] of list) {
        expect([line, unknownOptions(line, helpOf)]).toEqual([line, []]);
        if (path !== 'mome' && !line.includes('-m vlmo-base-coco') && path !== 'models')
          expect(line).toContain(`mome ${path}`);
      }
    expect(unknownOptions('mome search photos --opn', helpOf)).toEqual(['mome search: --opn']);
  });
});
