/** The server's side of the web page: its files, pictures by number, figures, keys; for clients that mean no good as well. */
import { readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { RunReport, Vlmo } from '../../src/inference/index.ts';
import { SearchIndex } from '../../src/search/index.ts';
import { createServer } from '../../src/serve/index.ts';
import { LiveFigures, secondsKept } from '../../src/serve/page/live.ts';
import type { LiveAnswer, PageState } from '../../src/serve/page/messages.ts';
import { temporaryFolder } from '../helpers.ts';
import { loadTiny, png, post, raw, started } from './helpers.ts';

let model: Vlmo;
let index: SearchIndex;
let folder = '';
let url = '';
beforeAll(async () => {
  model = await loadTiny();
  folder = await temporaryFolder();
  const paths = await Promise.all(
    [0, 1, 2, 3, 4].map(async (i) => {
      const path = join(folder, `${i}.png`);
      await writeFile(path, await png(i + 1));
      return path;
    }),
  );
  index = await SearchIndex.build(model, paths);
  ({ url } = await started(model, { index, page: true }));
}, 60_000);

const json = async <T>(path: string): Promise<T> => (await (await fetch(`${url}${path}`)).json()) as T;

describe('the files of the page', () => {
  it('are served with a policy that lets nothing else in, and again only when they changed', async () => {
    const types = {
      '/': 'text/html',
      '/page/page.js': 'text/javascript',
      '/page/page.css': 'text/css',
      '/page/icon.svg': 'image/svg+xml',
    };
    for (const [path, type] of Object.entries(types)) {
      const response = await fetch(`${url}${path}`);
      expect([path, response.status]).toEqual([path, 200]);
      expect(response.headers.get('content-type')).toContain(type);
      const policy = response.headers.get('content-security-policy')!;
      expect(policy.split(';').map((part) => part.trim())).toEqual([
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
      ]);
      expect(response.headers.get('x-content-type-options')).toBe('nosniff');
      const again = await fetch(`${url}${path}`, { headers: { 'if-none-match': response.headers.get('etag')! } });
      expect(again.status).toBe(304);
    }
    const page = await (await fetch(`${url}/`)).text();
    expect(page).not.toMatch(/<style|style=|<script(?! type="module" src="page\/)|\son\w+=|https?:/i);
    expect((await fetch(`${url}/health`)).headers.get('content-security-policy')).toContain("default-src 'self'"); // routes keep theirs
  });

  it('are not there by default, and / then asks for a key', async () => {
    const plain = await started(model, { index });
    for (const path of ['/', '/page/page.js', '/page/state', '/page/live', '/page/thumbnails/0'])
      expect((await fetch(`${plain.url}${path}`)).status).toBe(404);
    const keyed = await createServer(model, { apiKeys: ['a'] });
    expect((await keyed.inject({ url: '/' })).statusCode).toBe(401);
    await keyed.close();
  });

  it('ask for no key; all that they ask the server does', async () => {
    const { url } = await started(model, { index, page: true, apiKeys: ['secret'] });
    const status = async (path: string, headers: Record<string, string> = {}) =>
      (await fetch(`${url}${path}`, { headers })).status;
    for (const path of ['/', '/page/page.js', '/page/page.css', '/page/icon.svg']) expect(await status(path)).toBe(200);
    for (const path of ['/page/state', '/page/live', '/page/thumbnails/0', '/page/pictures/0']) {
      expect([path, await status(path)]).toEqual([path, 401]);
      expect(await status(path, { authorization: 'Bearer secret' })).toBe(200);
    }
  });

  it('have colours with a contrast of 4.5', () => {
    const css = readFileSync(new URL('../../src/serve/page/browser/page.css', import.meta.url), 'utf8');
    const [light, dark] = [...css.matchAll(/:root \{([^}]+)\}/g)].map(([, body]) => {
      const found = [...body!.matchAll(/--([\w-]+): (#[\da-f]{6});/g)];
      return Object.fromEntries(found.map(([, name, colour]) => [name!, colour!]));
    });
    const pairs = [
      ...['ink', 'quiet', 'accent', 'good', 'bad'].flatMap((text) =>
        ['paper', 'surface', 'sunken', 'tint'].map((ground) => [text, ground]),
      ),
      ['on-accent', 'accent'],
      ['bad', 'bad-tint'],
    ];
    for (const colours of [light!, dark!])
      for (const [text, ground] of pairs)
        expect(contrast(colours[text!]!, colours[ground!]!), `${text} on ${ground}`).toBeGreaterThanOrEqual(4.5);
    expect(contrast('#777777', '#ffffff')).toBeLessThan(4.5); // the known border case is noticed
    expect(contrast('#767676', '#ffffff')).toBeGreaterThan(4.5);
  });
});

/** Contrast of two colours, from 1 to 21 (WCAG 2). */
function contrast(a: string, b: string): number {
  const luminance = (colour: string) => {
    const [red, green, blue] = [1, 3, 5].map((at) => {
      const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
  };
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light! + 0.05) / (dark! + 0.05);
}

describe('pictures of the index', () => {
  it('are named by their number alone', async () => {
    for (const size of ['thumbnails', 'pictures']) {
      const response = await fetch(`${url}/page/${size}/4`);
      expect([response.status, response.headers.get('content-type')]).toEqual([200, 'image/webp']);
      expect(Buffer.from(await response.arrayBuffer()).toString('latin1', 8, 12)).toBe('WEBP');
    }
    const wrong = [
      '5',
      '-1',
      '1.0',
      '01',
      '1e0',
      '0x1',
      '99999999999999999999',
      'NaN',
      '%00',
      '..%2f0.png',
      `${encodeURIComponent(join(folder, '0.png'))}`,
      '0%20',
      '٣',
      '__proto__',
      'length',
    ];
    for (const number of wrong) {
      const response = await fetch(`${url}/page/thumbnails/${number}`);
      expect([number, response.status]).toEqual([number, 404]);
      expect(await response.text()).not.toContain(folder);
    }
    for (const path of [
      '/page/thumbnails/../../etc/passwd',
      '/page/../package.json',
      '/page/thumbnails/0/1',
      '/page/thumbnails/',
      '/page/page.js.map',
    ])
      expect((await raw(url, `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`)).text).toMatch(
        /^HTTP\/1.1 404/,
      );
  });

  it('that can no longer be read say so, and not where they lay', async () => {
    await rm(join(folder, '3.png'));
    await writeFile(join(folder, '2.png'), 'GIF89a no longer');
    for (const number of [2, 3]) {
      const response = await fetch(`${url}/page/pictures/${number}`);
      const body = await response.text();
      expect([response.status, (JSON.parse(body) as { error: { code: string } }).error.code]).toEqual([
        404,
        'PICTURE_UNREADABLE',
      ]);
      expect(body).not.toContain(folder);
    }
  });

  it('are decoded once for many who ask at the same time, who leave, or who never read', async () => {
    const slow = Array.from({ length: 40 }, () =>
      raw(url, 'GET /page/pictures/1 HTTP/1.1\r\nhost: localhost\r\n\r\n', 300),
    );
    const asked = await Promise.all(Array.from({ length: 60 }, () => fetch(`${url}/page/pictures/1`)));
    expect(new Set(asked.map(({ status }) => status))).toEqual(new Set([200]));
    await Promise.all(asked.map((response) => response.arrayBuffer()));
    await Promise.all(slow);
    expect((await fetch(`${url}/page/thumbnails/0`)).status).toBe(200);
  });

  it('are refused with 429 beyond those that may wait', async () => {
    const count = 1200;
    const pathOf = async (i: number) => join(folder, `missing ${i}.png`);
    const { IndexPictures } = await import('../../src/serve/page/pictures.ts');
    const pictures = new IndexPictures({ count, pathOf, shownPath: (path) => path });
    const codes = await Promise.all(
      Array.from({ length: count }, (_, i) =>
        pictures.get(String(i), 'small').then(
          () => '',
          ({ code }) => code as string,
        ),
      ),
    );
    expect(codes.filter((code) => code === 'MOME_OVERLOADED').length).toBeGreaterThan(600);
    expect(codes.filter((code) => code === 'PICTURE_UNREADABLE').length).toBeGreaterThanOrEqual(512);
    expect(new Set(codes).size).toBe(2);
  });
});

describe('what the page is told', () => {
  it('is what the server has', async () => {
    const state = await json<PageState>('/page/state');
    expect(state.index).toEqual({ pictures: 5, some: [0, 1, 2, 3, 4].map((i) => ({ index: i, path: `${i}.png` })) });
    expect(state.models).toMatchObject([
      { name: 'mome', device: 'cpu', abilities: ['embed', 'match', 'answer', 'reason', 'fillMask'] },
    ]);
    expect(JSON.stringify(state)).not.toContain(folder);
    const found = (await post(`${url}/v1/search`, { text: 'a red circle', k: 5, rerank: 0 })).body.results as {
      path: string;
      index: number;
    }[];
    expect(found.map(({ path }) => path)).toEqual(found.map((each) => `${each.index}.png`)); // results are named as pictures are
  });

  it('are figures of the last seconds, without the page’s own requests', async () => {
    const { url } = await started(model, { page: true });
    const json = async <T>(path: string): Promise<T> => (await (await fetch(`${url}${path}`)).json()) as T;
    const sum = ({ samples }: LiveAnswer) => samples.reduce((total, { requests }) => total + requests, 0);
    const before = await json<LiveAnswer>('/page/live');
    for (let i = 0; i < 3; i++) await post(`${url}/v1/embed`, { texts: [`text ${i}`] });
    let after = before;
    for (let i = 0; i < 50 && sum(after) < sum(before) + 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      after = await json<LiveAnswer>('/page/live');
    }
    expect(sum(after)).toBe(sum(before) + 3);
    const news = await json<LiveAnswer>(`/page/live?since=${after.next - 1}`);
    expect(news.samples.length).toBeLessThanOrEqual(2);
    expect(after.samples.some(({ tokens, p50, fill }) => tokens > 0 && p50! > 0 && fill! > 0)).toBe(true);
    for (const since of ['-1', '1e3', 'x', '1&since=2', '9999999999999'])
      expect((await fetch(`${url}/page/live?since=${since}`)).status, since).toBe(422);
    expect((await json<LiveAnswer>('/page/live?since=999999999999')).samples).toEqual([]);
  });

  it('stands many who look at the same time', async () => {
    const answers = await Promise.all(
      Array.from({ length: 400 }, () => fetch(`${url}/page/live`).then(({ status }) => status)),
    );
    expect(new Set(answers)).toEqual(new Set([200]));
  });
});

describe('LiveFigures', () => {
  const run: RunReport = {
    heads: ['embed'],
    items: 2,
    rows: 30,
    budget: 40,
    milliseconds: 20,
    waited: [],
    failed: false,
  } as RunReport;

  it('sum up a second and keep a bounded number of them', () => {
    const live = new LiveFigures(() => []);
    for (let i = 1; i <= 100; i++) live.request(200, i);
    live.request(429, 1);
    live.request(404, 1);
    live.request(503, 1);
    live.run(run);
    live.run({ ...run, rows: 10 });
    live.run({ ...run, failed: true });
    live.sample();
    const [sample] = live.since(0).samples;
    expect(sample).toMatchObject({
      requests: 100,
      refused: 1,
      failed: 1,
      tokens: 40,
      runs: 2,
      fill: 0.5,
      busy: 0.06,
      queue: 0,
    });
    expect(Math.abs(sample!.p50! / 50 - 1)).toBeLessThan(0.1);
    expect(Math.abs(sample!.p95! / 95 - 1)).toBeLessThan(0.1);
    live.sample();
    expect(live.since(1).samples).toMatchObject([{ requests: 0, p50: null, fill: null }]);
    for (let i = 0; i < 3 * secondsKept; i++) live.sample();
    expect(live.since(0).samples.length).toBe(secondsKept);
    expect(live.since(0).next).toBe(2 + 3 * secondsKept);
    live.close();
  });

  it('take durations of any length', () => {
    const live = new LiveFigures(() => []);
    for (const milliseconds of [0, 1e-9, 1e9]) live.request(200, milliseconds);
    live.sample();
    const [sample] = live.since(0).samples;
    expect(sample!.p50).toBeLessThan(0.2);
    expect(sample!.p95).toBeGreaterThan(300_000);
    live.close();
  });
});
