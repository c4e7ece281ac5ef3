/** Forms as people write them with curl: names that are near, several files, types that lie. */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import { temporaryFolder } from '../helpers.ts';
import { loadTiny, png, started } from './helpers.ts';

const run = promisify(execFile);

let model: Vlmo;
let url = '';
let folder = '';
let cat: Buffer;
let dog: Buffer;
beforeAll(async () => {
  model = await loadTiny();
  ({ url } = await started(model));
  folder = await temporaryFolder();
  [cat, dog] = [await png(1), await png(2)];
  await writeFile(join(folder, 'cat.png'), cat);
  await writeFile(join(folder, 'dog.png'), dog);
  await writeFile(join(folder, 'notes.txt'), 'no picture at all');
  await writeFile(join(folder, 'page.png'), '<html><body>404</body></html>');
  await writeFile(join(folder, 'noise.bin'), Buffer.alloc(64, 1));
  await writeFile(join(folder, 'empty.png'), '');
}, 60_000);

// biome-ignore lint/suspicious/noExplicitAny: answers are of every kind
type Answer = { status: number; body: any };

/** What curl says to `curl -F ...` against a route. */
async function curl(path: string, ...fields: string[]): Promise<Answer> {
  const args = fields.flatMap((field) => ['-F', field]);
  const { stdout } = await run('curl', ['-s', '-w', '\n%{http_code}', `${url}${path}`, ...args], { cwd: folder });
  const end = stdout.lastIndexOf('\n');
  return { status: Number(stdout.slice(end)), body: JSON.parse(stdout.slice(0, end)) };
}
const rowsOf = (rows: number[][]) => rows.map((row) => row.map(Math.fround));

describe('forms of curl', () => {
  it('bring pictures under any name, one or several', async () => {
    const { embeddings, width } = await model.embedImages([cat, dog]);
    const both = [[...embeddings.slice(0, width)], [...embeddings.slice(width)]];
    for (const fields of [
      ['image=@cat.png', 'image=@dog.png'],
      ['images=@cat.png', 'images=@dog.png'],
      ['images=@cat.png', 'image=@dog.png'],
      ['images[]=@cat.png', 'images[]=@dog.png'],
      ['images[0]=@cat.png', 'images[1]=@dog.png'],
      ['file=@cat.png', 'photo=@dog.png'],
      ['=@cat.png', '=@dog.png'],
      ['image=@cat.png;type=text/plain', 'image=@dog.png;type=application/octet-stream'],
      ['image=@cat.png;type=image/jpeg', 'image=@dog.png;filename=notes.txt'],
    ]) {
      const { status, body } = await curl('/v1/embed', ...fields);
      expect(status, `${fields} ${JSON.stringify(body).slice(0, 300)}`).toBe(200);
      expect(rowsOf(body.images), String(fields)).toEqual(both);
    }
    // Another order is noticed.
    const turned = await curl('/v1/embed', 'image=@dog.png', 'image=@cat.png');
    expect(rowsOf(turned.body.images)).not.toEqual(both);
  });

  it('rank pictures and texts, whatever they are called', async () => {
    const direct = await model.rerank({ text: 'a cat' }, [cat, dog]);
    const order = direct.map(({ index }) => index);
    for (const fields of [
      ['query=a cat', 'documents=@cat.png', 'documents=@dog.png'],
      ['query=a cat', 'document=@cat.png', 'document=@dog.png'],
      ['query=a cat', 'image=@cat.png', 'image=@dog.png'],
      ['query=a cat', 'images=@cat.png', 'image=@dog.png'],
      ['cat=@cat.png', 'query=a cat', 'dog=@dog.png'],
    ])
      for (const path of ['/v1/rerank', '/rerank']) {
        const { status, body } = await curl(path, ...fields);
        expect(status, `${path} ${fields} ${JSON.stringify(body)}`).toBe(200);
        expect(body.results.map(({ index }: { index: number }) => index)).toEqual(order);
      }
    const byPicture = await curl('/v1/rerank', 'query=@cat.png', 'text=a cat', 'texts=a dog', 'return_documents=true');
    expect(byPicture.body.results.map((each: { document: { text: string } }) => each.document.text).sort()).toEqual([
      'a cat',
      'a dog',
    ]);
    const without = await curl('/v1/rerank', 'images=@cat.png');
    expect([without.status, without.body.error.message]).toEqual([422, 'query: expected a value, got none']);
  });

  it('bring one picture, or two, where a route wants so many', async () => {
    const answered = await curl('/v1/answer', 'photo=@cat.png', 'question=is it red', 'k=2');
    expect(answered.body.answers).toEqual(await model.answer(cat, 'is it red', { k: 2 }));
    const reasoned = await curl('/v1/reason', 'left=@cat.png', 'right=@dog.png', 'statement=both are red');
    expect(reasoned.body.probability).toBe((await model.reason([cat, dog], 'both are red')).probability);
    const filled = await curl('/v1/fill-mask', 'text=a [MASK] cat', 'image=@cat.png');
    expect(filled.body.masks).toEqual(await model.fillMask(cat, 'a [MASK] cat'));
    const two = await curl('/v1/answer', 'image=@cat.png', 'image=@dog.png', 'question=is it red');
    expect([two.status, two.body.error.message]).toEqual([422, 'image: expected one, got 2']);
    const three = await curl('/v1/reason', ...Array(3).fill('image=@cat.png'), 'statement=a');
    expect(three.status).toBe(413);
  });

  it('are refused with the reason where they make no sense', async () => {
    const refused = async (status: number, code: string, text: string, path: string, ...fields: string[]) => {
      const { status: got, body } = await curl(path, ...fields);
      expect([got, body.error?.code], `${fields} ${JSON.stringify(body)}`).toEqual([status, code]);
      expect(body.error.message).toContain(text);
    };
    const unsupported = 'UNSUPPORTED_MEDIA_TYPE';
    const invalid = 'MOME_INVALID_ARGUMENT';
    // The first bytes of a file say what it is.
    await refused(415, unsupported, 'got text, sent as image/png', '/v1/embed', 'image=@notes.txt;type=image/png');
    await refused(415, unsupported, 'got HTML', '/v1/embed', 'image=@page.png');
    await refused(415, unsupported, 'another kind', '/v1/match', 'image=@noise.bin;type=image/webp', 'text=a');
    await refused(415, unsupported, 'image: expected', '/v1/rerank', 'query=a', 'image=@page.png');
    await refused(422, 'MOME_INVALID_IMAGE', 'got text', '/v1/embed', 'image=@notes.txt');
    await refused(422, 'MOME_INVALID_IMAGE', 'empty file', '/v1/embed', 'image=@empty.png');
    await refused(422, invalid, 'no path is read', '/v1/embed', 'image=cat.png');
    await refused(422, invalid, "curl sends its content with -F 'text=<file'", '/v1/embed', 'text=@notes.txt');
    await refused(422, invalid, 'a field without name', '/v1/embed', '=cat', 'text=a');
    await refused(422, invalid, 'words: expected one of the fields', '/v1/embed', 'words=a');
    await refused(422, invalid, 'expected true or false', '/v1/rerank', 'query=a', 'text=b', 'raw_scores=maybe');
    await refused(422, invalid, 'k: ', '/v1/answer', 'image=@cat.png', 'question=a', 'k=many');
    await refused(415, unsupported, 'got a form', '/v1/embeddings', 'input=a');
  });

  it('and other methods and types of body get answers that say what is expected', async () => {
    const got = await fetch(`${url}/v1/embed`);
    expect([got.status, got.headers.get('allow')]).toEqual([405, 'POST']);
    expect(((await got.json()) as { error: { code: string } }).error.code).toBe('METHOD_NOT_ALLOWED');
    const raw = await fetch(`${url}/v1/embed`, {
      method: 'POST',
      headers: { 'content-type': 'image/png' },
      body: new Uint8Array(cat),
    });
    expect(raw.status).toBe(415);
    expect(await raw.text()).toContain('application/json');
  });
});
