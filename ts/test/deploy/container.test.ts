import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { addServe } from '../../src/cli/serve.ts';
import { temporaryFolder } from '../helpers.ts';

const dockerfile = readFileSync('deploy/Dockerfile', 'utf8');
const ignored = readFileSync('.dockerignore', 'utf8');

/** What a file of Docker copies that is not there, that `.dockerignore` keeps out, or that no earlier stage has made. */
function problemsOf(text: string): string[] {
  const problems: string[] = [];
  const sent = [...ignored.matchAll(/^!(.+)$/gm)].map(([, path]) => path!);
  const stages = new Map<string, string[]>();
  let stage: string[] = [];
  for (const line of text.replace(/\\\n/g, ' ').split('\n')) {
    const from = /^FROM \S+ AS (\S+)$/.exec(line);
    if (from) {
      stage = ['/app/node_modules', '/app/dist', '/app/build/Release'];
      stages.set(from[1]!, stage);
    }
    const copy = /^COPY ((?:--\S+ )*)(.+)$/.exec(line);
    if (!copy) continue;
    const of = /--from=(\S+)/.exec(copy[1]!)?.[1];
    for (const source of copy[2]!.split(' ').slice(0, -1)) {
      if (of === undefined) {
        if (!existsSync(source)) problems.push(`not there: ${source}`);
        if (!sent.some((path) => source === path || source.startsWith(`${path}/`)))
          problems.push(`kept out: ${source}`);
        stage.push(`/app/${source}`);
      } else if (!stages.get(of)?.includes(source)) problems.push(`not in ${of}: ${source}`);
    }
  }
  return problems;
}

describe('the container', () => {
  it('copies what is there', () => {
    expect(problemsOf(dockerfile)).toEqual([]);
    expect(problemsOf(dockerfile.replace('COPY models models', 'COPY model models'))).toEqual([
      'not there: model',
      'kept out: model',
    ]);
    expect(problemsOf(dockerfile.replace('COPY models', 'COPY docs'))).toEqual(['kept out: docs']);
    expect(problemsOf(dockerfile.replace('/app/dist dist', '/app/out dist'))).toEqual(['not in build: /app/out']);
  });

  it('knows the flags and variables of the server', () => {
    const program = new Command();
    addServe(program);
    const { options } = program.commands[0]!;
    const variables = new Set(options.map(({ envVar }) => envVar));
    const unknown = (text: string) => [...text.matchAll(/MOME_SERVE_\w+/g)].filter(([name]) => !variables.has(name));
    for (const file of ['Dockerfile', 'healthcheck.mjs', 'mome.service'])
      expect(unknown(readFileSync(`deploy/${file}`, 'utf8'))).toEqual([]);
    expect(unknown('MOME_SERVE_PORTS')).toHaveLength(1);
    const unit = readFileSync('deploy/mome.service', 'utf8');
    const flags = [.../^ExecStart=.*$/m.exec(unit)![0].matchAll(/--([a-z-]+) (\S+)/g)];
    expect(flags.length).toBeGreaterThan(2);
    for (const [, name] of flags) expect(options.map(({ long }) => long)).toContain(`--${name}`);
    const value = (name: string) => Number(flags.find(([, each]) => each === name)![2]);
    const stop = Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)![1]);
    expect(1000 * stop).toBeGreaterThan(value('drain-delay') + value('drain-timeout'));
  });

  it.skipIf(spawnSync('systemd-analyze', ['--version']).status !== 0)(
    'has a unit that systemd understands',
    async () => {
      const verify = (path: string) => spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' });
      expect(verify('./deploy/mome.service').stderr).toBe('');
      const planted = join(await temporaryFolder(), 'mome.service');
      await writeFile(
        planted,
        readFileSync('deploy/mome.service', 'utf8').replace('ProtectHome=yes', 'ProtectHomes=yes'),
      );
      expect(verify(planted).stderr).toContain('ProtectHomes');
    },
  );

  it('gives JavaScript a quarter of the memory that the container may have', async () => {
    const folder = await temporaryFolder();
    const node = join(folder, 'node');
    await writeFile(node, '#!/bin/sh\necho "$NODE_OPTIONS|$2"\n');
    chmodSync(node, 0o755);
    const start = (cgroup: string) =>
      spawnSync('deploy/entrypoint.sh', ['serve'], {
        encoding: 'utf8',
        env: { PATH: `${folder}:${process.env.PATH}`, MOME_CGROUP: join(folder, cgroup) },
      }).stdout.trim();
    const limit = async (path: string, value: string) => {
      await mkdir(join(folder, path, '..'), { recursive: true });
      await writeFile(join(folder, path), `${value}\n`);
    };
    await limit('two/memory.max', `${4 * 2 ** 30}`);
    await limit('none/memory.max', 'max');
    await limit('one/memory/memory.limit_in_bytes', `${2 ** 31}`);
    await limit('endless/memory/memory.limit_in_bytes', '9223372036854771712');
    expect(start('two')).toBe('--max-old-space-size=1024 |serve');
    expect(start('one')).toBe('--max-old-space-size=512 |serve');
    for (const cgroup of ['none', 'endless', 'missing']) expect(start(cgroup)).toBe('|serve');
  });

  it('is healthy while the server is ready', async () => {
    let status = 200;
    const paths: (string | undefined)[] = [];
    const server = createServer(({ url }, reply) => {
      paths.push(url);
      reply.writeHead(status).end();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const env = { ...process.env, MOME_SERVE_PORT: `${(server.address() as AddressInfo).port}` };
    const check = async () =>
      (await once(spawn(process.execPath, ['deploy/healthcheck.mjs'], { env }), 'close'))[0] as number;
    expect(await check()).toBe(0);
    status = 503;
    expect(await check()).toBe(1);
    server.close();
    expect(await check()).toBe(1);
    expect(paths).toEqual(['/health/ready', '/health/ready']);
  });
});
