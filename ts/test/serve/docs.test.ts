/** The commands of docs/server.md, as a newcomer types them, against `mome serve` itself. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { copyFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../helpers.ts';
import { png } from './helpers.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const page = readFileSync(join(root, 'docs', 'server.md'), 'utf8');
const run = promisify(execFile);

/** The block of code of the page that holds a text. */
function blockOf(language: string, text: string): string {
  const blocks = [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(
    ([, code]) => code!,
  );
  const found = blocks.find((code) => code.includes(text));
  if (found === undefined) throw new Error(`expected a block of ${language} with ${text}`);
  return found;
}

let folder = '';
let server: ChildProcess;
let address = '';
let grpcAddress = '';
let log = '';
let spans = '';
beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'cat.png'), await png(1));
  await writeFile(join(folder, 'car.png'), await png(2));
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  await copyFile(join(root, 'ts/src/serve/protos/open_inference.proto'), join(folder, 'open_inference.proto'));
  await writeFile(join(folder, 'tracing.mjs'), blockOf('js', 'setGlobalTracerProvider'));
  const tracing = ['--import', join(folder, 'tracing.mjs')];
  server = spawn(process.execPath, [...tracing, join(root, 'dist/cli.mjs'), 'serve', '--threads', '1'], {
    env: {
      ...process.env,
      MOME_SERVE_PORT: '0',
      MOME_SERVE_GRPC_PORT: '0',
      MOME_SERVE_STORE: join(folder, 'pictures.vectors'),
      MOME_SERVE_WRITABLE: 'true',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  server.stdout!.on('data', (text) => {
    spans += String(text);
  });
  address = await new Promise<string>((resolve, reject) => {
    server.stderr!.on('data', (text) => {
      log += String(text);
      const found = /mome: listening at http:\/\/([\d.:]+)/.exec(log)?.[1];
      grpcAddress = /mome: listening for gRPC at ([\d.:]+)/.exec(log)?.[1] ?? '';
      if (found) resolve(found);
    });
    server.once('exit', () => reject(new Error(log)));
  });
});
afterAll(() => server.kill('SIGKILL'));

describe('docs/server.md', () => {
  const commands = page.split('\n').filter((line) => line.startsWith('curl '));

  it('has commands that work', async () => {
    expect(commands.length).toBeGreaterThan(6);
    for (const command of commands) {
      const here = command.replace('localhost:8080', address).replace('curl -s', 'curl -s -w "\\n%{http_code}"');
      const { stdout } = await run('sh', ['-c', here], { cwd: folder });
      expect(stdout.trim().split('\n').at(-1), `${command}\n${stdout.slice(0, 300)}`).toBe('200');
    }
    // A route that does not exist is noticed.
    const planted = `curl -s -o /dev/null -w "%{http_code}" ${address}/v1/embeds`;
    expect((await run('sh', ['-c', planted])).stdout).toBe('404');
  });

  it('has a Python client that works', async () => {
    const code = /^```python\n([\s\S]*?)^```$/m.exec(page)![1]!.replace('localhost:8080', address);
    const { stdout } = await run('python3', ['-c', code], { cwd: folder });
    expect(stdout).toContain('relevance_score');
  });

  it('has a client of gRPC that works', async () => {
    const code = blockOf('js', 'GRPCInferenceService').replace('localhost:8081', grpcAddress);
    await writeFile(join(folder, 'client.mjs'), code);
    const { stdout } = await run(process.execPath, ['client.mjs'], { cwd: folder });
    expect(stdout).toMatch(/^match \[ 1 \] \[ 0\.\d+ \]\ntext_embedding \[ 1, \d+ \] \[ -?0\.\d+/);
  });

  it('has one in Python that works, where its packages are', async () => {
    const python = process.env.MOME_TEST_PYTHON ?? 'python3';
    const code = blockOf('python', 'GRPCInferenceServiceStub').replace('localhost:8081', grpcAddress);
    const protoc = ['-m', 'grpc_tools.protoc', '-I.', '--python_out=.', '--grpc_python_out=.', 'open_inference.proto'];
    expect(code).toContain(protoc.join(' '));
    const made = await run(python, protoc, { cwd: folder }).catch(() => undefined);
    if (!made) return;
    const { stdout } = await run(python, ['-c', code], { cwd: folder });
    expect(stdout).toMatch(/^2 \d+ \(-?0\.\d+/);
  });

  it('switches traces on', async () => {
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    const headers = { 'content-type': 'application/json', traceparent: `00-${traceId}-b7ad6b7169203331-01` };
    await fetch(`http://${address}/v1/embed`, { method: 'POST', headers, body: '{"texts": ["traced"]}' });
    for (let i = 0; i < 100 && !(spans.includes(traceId) && log.includes(traceId)); i++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    for (const text of [
      traceId,
      'POST /v1/embed',
      'mome.run',
      'mome.decode',
      'inference.GRPCInferenceService/ModelInfer',
    ])
      expect(spans).toContain(text);
    expect(log).toContain(`"trace_id":"${traceId}"`);
  });

  it('tells the routes that there are', async () => {
    const { paths } = (await (await fetch(`http://${address}/openapi.json`)).json()) as {
      paths: Record<string, object>;
    };
    const own = Object.keys(paths).filter(
      (path) => /^\/(v1|v2\/rerank|rerank|embed)/.test(path) && !path.includes('{'),
    );
    for (const path of own) expect(page, path).toContain(path);
  });

  it('ends as it says: with 0 after SIGTERM, and reloads on SIGHUP', async () => {
    server.kill('SIGHUP');
    for (let i = 0; i < 200 && !log.includes('loaded mome again'); i++)
      await new Promise((resolve) => setTimeout(resolve, 50));
    expect(log).toContain('loaded mome again');
    const ended = new Promise<number | null>((resolve) => server.once('exit', resolve));
    server.kill('SIGTERM');
    expect(await ended).toBe(0);
  });

  it('is refused with reasons where it is started wrongly', async () => {
    const start = async (...flags: string[]) => {
      const failure = await run(process.execPath, [join(root, 'dist/cli.mjs'), 'serve', ...flags]).catch(
        (error: unknown) => error,
      );
      return failure as { code: number; stderr: string };
    };
    expect(await start('--tls-cert', 'a.pem')).toMatchObject({ code: 2, stderr: expect.stringContaining('--tls-key') });
    expect(await start('--port', '70000')).toMatchObject({ code: 2 });
    expect(await start('--api-key-file', '/missing')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('MOME_NOT_FOUND'),
    });
    expect(await start('--model', 'a=x', 'a=y')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('different names'),
    });
  });
});
