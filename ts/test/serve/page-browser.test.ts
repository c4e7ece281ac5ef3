/** The web page as people use it, in Chromium: search, questions, keyboard, phone, hostile names and texts, keys. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convertCheckpoint } from '../../src/checkpoint/index.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { SearchIndex } from '../../src/search/index.ts';
import { temporaryFolder, tinyAnswers, tinyModel } from '../helpers.ts';
import { png, started } from './helpers.ts';

const executablePath = '/usr/bin/chromium';
const isThere = existsSync(executablePath);
if (!isThere && process.env.MOME_REQUIRE?.includes('chromium'))
  throw new Error(`expected ${executablePath}, found none`);

/** Names that would act if anything read them as HTML, as an address or as a path. */
const hostileNames = [
  '<img src=x onerror=hit()>.svg',
  '"><svg onload=hit()>.png',
  'javascript:hit().png',
  '%2e%2e%2fpasswd.png',
  'a\u202egnp.png',
  `${'long'.repeat(50)}.png`,
];
const hostileAnswer = '<img src=x onerror=hit()>';
const svg =
  '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><script>hit()</script><circle cx="20" cy="20" r="15" fill="red"/></svg>';

let browser: Browser;
let model: Vlmo;
let index: SearchIndex;
let url = '';
let folder = '';

/** What a page has done that it must not. */
interface Watched {
  readonly page: Page;
  readonly errors: string[];
  readonly foreign: string[];
}

async function open(address: string, options: BrowserContextOptions = {}): Promise<Watched> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const errors: string[] = [];
  const foreign: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) errors.push(message.text());
  });
  page.on('pageerror', ({ message }) => errors.push(message));
  page.on('request', (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith(`blob:${address}`)) foreign.push(request.url());
  });
  await page.addInitScript('window.hits = 0; window.hit = () => { window.hits++; };');
  await page.goto(`${address}/`);
  return { page, errors, foreign };
}

async function expectClean({ page, errors, foreign }: Watched): Promise<void> {
  expect(errors).toEqual([]);
  expect(foreign).toEqual([]);
  expect(await page.evaluate('window.hits')).toBe(0);
  await page.context().close();
}

/** Waits for a text. Not by `waitForFunction`, whose `eval` the policy of the page refuses. */
const until = (page: Page, selector: string, text: string) =>
  expect.poll(() => page.textContent(selector), { timeout: 10_000 }).toContain(text);

const namesOf = (page: Page, list: number) => page.locator('.list').nth(list).locator('.name bdi').allTextContents();
const search = async (page: Page, text: string) => {
  await page.fill('#search-text', text);
  await page.press('#search-text', 'Enter');
  await until(page, '#search-status', ' in ');
};

describe.skipIf(!isThere)(`the page in Chromium${isThere ? '' : ` (skipped: no browser at ${executablePath})`}`, () => {
  beforeAll(async () => {
    const home = await tinyModel();
    const answers = tinyAnswers.map((answer) => `${hostileAnswer} ${answer}`);
    await writeFile(join(home, 'answers.json'), JSON.stringify(answers));
    folder = await temporaryFolder();
    const names = [...hostileNames, ...Array.from({ length: 10 }, (_, i) => `plain ${i}.png`)];
    for (const [i, name] of names.entries())
      await writeFile(join(folder, name), name.endsWith('.svg') ? svg : await png(i));
    [model, browser] = await Promise.all([
      Vlmo.load(home),
      chromium.launch({ executablePath, args: ['--no-sandbox'] }),
    ]);
    index = await SearchIndex.build(
      model,
      names.map((name) => join(folder, name)),
    );
    ({ url } = await started(model, { index, page: true }));
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    await model?.dispose();
  });

  it('searches by a text and shows both orders, with hostile names as what they are', async () => {
    const watched = await open(url);
    const { page } = watched;
    await page.waitForSelector('.mosaic img');
    await search(page, 'a red circle');
    const found = await index.search('a red circle', { k: 16, rerank: 32 });
    const dual = [...found].sort((a, b) => a.dualRank - b.dualRank);
    const shown = (results: typeof found) =>
      results.slice(0, 12).map(({ path }) => basename(path).replace('\u202e', '\\u{202e}'));
    expect(await namesOf(page, 0)).toEqual(shown(found));
    expect(await namesOf(page, 1)).toEqual(shown(dual));
    expect(shown(found)).not.toEqual(shown(dual)); // the order has changed, so the lists were told apart
    const moves = await page.locator('.list').nth(0).locator('.move .hidden').allTextContents();
    for (const [place, { dualRank }] of found.slice(0, 12).entries()) {
      const words =
        dualRank === place ? 'same place' : `${dualRank > place ? 'up' : 'down'} ${Math.abs(dualRank - place)}, was `;
      expect(moves[place]!.startsWith(words), `${moves[place]} ${words}`).toBe(true);
    }
    await page.selectOption('#search-count', '24');
    await expect.poll(() => page.locator('.card img').count(), { timeout: 10_000 }).toBe(32);
    expect(await page.locator('img[src="x"], [onerror], [onload], .results script, .results svg').count()).toBe(0);
    await page.locator('.card', { hasText: 'onerror' }).first().click();
    await page.waitForSelector('.large img');
    expect(await page.locator('#picture-name').textContent()).toBe(hostileNames[0]);
    await search(page, '<img src=x onerror=hit()>').catch(() => {}); // the dialog is in front
    await page.keyboard.press('Escape');
    await expectClean(watched);
  });

  it('searches by a picture that is chosen, dropped, pasted or found', async () => {
    const watched = await open(url);
    const { page } = watched;
    const bytes = [...(await png(8))]; // `plain 2.png`
    const expectFound = async () => {
      await until(page, '#search-status', 'vectors alone');
      expect((await namesOf(page, 0))[0]).toBe('plain 2.png');
      expect(await page.locator('.list').count()).toBe(1);
      await page.click('#search-well button');
      await page.fill('#search-text', 'blue'); // another state in between
      await page.press('#search-text', 'Enter');
      await until(page, '#search-status', 'Re-ranking');
    };
    await page.setInputFiles('#search-well-file', join(folder, 'plain 2.png'));
    await expectFound();
    for (const [type, target, property] of [
      ['drop', '#search-well', 'dataTransfer'],
      ['drop', 'main', 'dataTransfer'],
      ['paste', 'body', 'clipboardData'],
    ] as const) {
      await page.evaluate(
        ([type, target, property, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes as number[])], '<b>own.png', { type: 'image/png' }));
          const Kind = type === 'paste' ? ClipboardEvent : DragEvent;
          const event = new Kind(type as string, { [property as string]: data, bubbles: true, cancelable: true });
          document.querySelector(target as string)!.dispatchEvent(event);
        },
        [type, target, property, bytes] as const,
      );
      await expectFound();
    }
    await page.selectOption('#search-count', '24');
    await page.locator('.card', { hasText: 'plain 2.png' }).first().click();
    await page.click('text=Find similar pictures');
    await expectFound();
    await expectClean(watched);
  });

  it('answers a question and judges a statement as the model does', async () => {
    const watched = await open(url);
    const { page } = watched;
    await page.click('nav >> text=Ask');
    await page.click('#ask-form button[type=submit]');
    expect(await page.textContent('#ask-message')).toContain('no picture yet');
    await page.setInputFiles('#ask-well-file', join(folder, hostileNames[0]!));
    await page.fill('#ask-question', 'is it <b>red</b>');
    await page.press('#ask-question', 'Enter');
    await page.waitForSelector('.answers li');
    const direct = await model.answer(join(folder, hostileNames[0]!), 'is it <b>red</b>', { k: 6 });
    expect(await page.locator('.answers .answer').allTextContents()).toEqual(direct.map(({ answer }) => answer));
    expect(direct[0]!.answer).toContain(hostileAnswer);
    await page.click('nav >> text=Judge');
    const two = ['plain 1.png', 'plain 2.png'].map((name) => join(folder, name)) as [string, string];
    await page.setInputFiles('#judge-left-file', two[0]);
    await page.setInputFiles('#judge-right-file', two[1]);
    await page.fill('#judge-statement', 'both are red');
    await page.press('#judge-statement', 'Enter');
    await page.waitForSelector('.verdict');
    const { probability } = await model.reason(two, 'both are red');
    const [percent] = (await page.textContent('.truth .share'))!.split(' ');
    expect(Math.abs(Number(percent) / 100 - probability)).toBeLessThanOrEqual(0.0051);
    await expectClean(watched);
  });

  it('works by keyboard alone, and shows where the focus is', async () => {
    const watched = await open(url);
    const { page } = watched;
    await page.waitForSelector('#search-form:visible');
    const focus = () =>
      page.evaluate(() => {
        const element = document.activeElement as HTMLElement;
        const shown = element.matches('input[type=file]') ? element.nextElementSibling! : element;
        const { outlineStyle, outlineWidth } = getComputedStyle(shown);
        return {
          id: element.id,
          className: element.className,
          text: element.textContent,
          isSeen: outlineStyle !== 'none' && Number.parseFloat(outlineWidth) >= 2,
        };
      });
    const tabTo = async (wanted: (at: Awaited<ReturnType<typeof focus>>) => boolean) => {
      for (let i = 0; i < 40; i++) {
        await page.keyboard.press('Tab');
        const at = await focus();
        expect(at.isSeen, JSON.stringify(at)).toBe(true);
        if (wanted(at)) return;
      }
      throw new Error(`expected to come there by Tab, got to ${JSON.stringify(await focus())}`);
    };
    await tabTo(({ className }) => className === 'skip');
    await page.keyboard.press('Enter');
    expect((await focus()).id).toBe('main');
    await tabTo(({ id }) => id === 'search-text');
    await page.keyboard.type('a red circle');
    await page.keyboard.press('Enter');
    await page.waitForSelector('.card');
    await tabTo(({ className }) => className === 'card twin');
    const first = await focus();
    await page.keyboard.press('Enter');
    await page.waitForSelector('.large img');
    const name = await page.textContent('#picture-name');
    await page.keyboard.press('ArrowRight');
    expect(await page.textContent('#picture-name')).not.toBe(name);
    await page.keyboard.press('Escape');
    expect((await focus()).text).toBe(first.text);
    await page.evaluate(() => (document.activeElement as HTMLElement).blur());
    await page.locator('.brand').focus();
    await tabTo(({ text }) => text === 'Live');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#title-live:visible');
    expect((await focus()).id).toBe('title-live');
    await page.waitForSelector('.chart canvas');
    expect(await page.locator('.chart').first().getAttribute('aria-label')).toMatch(
      /^Requests a second: [\d.]+ of late$/,
    );
    await expectClean(watched);
  });

  it('fits a phone of 360 pixels, is dark where that is wanted, and still where motion is not', async () => {
    const watched = await open(url, {
      viewport: { width: 360, height: 760 },
      colorScheme: 'dark',
      reducedMotion: 'reduce',
    });
    const { page } = watched;
    const fits = async (what: string) =>
      expect([what, await page.evaluate(() => document.documentElement.scrollWidth)]).toEqual([what, 360]);
    await page.waitForSelector('.mosaic img');
    await fits('start');
    await search(page, 'a red circle');
    await fits('results');
    await page.selectOption('#search-count', '24');
    await page.locator('.card', { hasText: 'longlong' }).first().click();

    await page.waitForSelector('.large img');
    expect(await page.evaluate(() => document.querySelector('dialog')!.scrollWidth)).toBeLessThanOrEqual(360);
    await page.keyboard.press('Escape');
    for (const view of ['Ask', 'Judge', 'Live']) {
      await page.click(`nav >> text=${view}`);
      await page.waitForTimeout(50);
      await fits(view);
    }
    expect(await page.evaluate(() => getComputedStyle(document.body).backgroundColor)).toBe('rgb(19, 22, 25)');
    const animation = () =>
      page.evaluate(() => {
        const probe = document.body.appendChild(document.createElement('div'));
        probe.className = 'placeholder';
        return getComputedStyle(probe).animationName;
      });
    expect(await animation()).toBe('none');
    await page.emulateMedia({ reducedMotion: 'no-preference' });
    expect(await animation()).toBe('breathe');
    await page.evaluate(() =>
      Object.assign(document.body.appendChild(document.createElement('div')).style, { width: '400px', height: '1px' }),
    );
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeGreaterThan(360); // something too wide is noticed
    await expectClean(watched);
  });

  it('runs no script of a document, and calls nobody else', async () => {
    const { page, errors } = await open(url);
    await page.evaluate(() => {
      const add = (tag: string, values: object) =>
        document.body.append(Object.assign(document.createElement(tag), values));
      add('script', { textContent: 'hit()' });
      add('div', { innerHTML: '<img src=x onerror=hit()>' });
      add('script', { src: 'data:text/javascript,hit()' });
    });
    expect(
      await page.evaluate(() =>
        fetch('http://127.0.0.1:9/').then(
          () => 'sent',
          () => 'refused',
        ),
      ),
    ).toBe('refused');
    await page.waitForTimeout(100);
    expect(await page.evaluate('window.hits')).toBe(0);
    expect(errors.filter((text) => text.includes('Content Security Policy')).length).toBeGreaterThanOrEqual(3);
    await page.context().close();
  });

  it('says how long a busy server wants to be left alone, and what is wrong with a picture', async () => {
    const { page } = await open(url);
    await page.waitForSelector('#search-form:visible');
    const busy = { error: { message: 'expected room in the queue', code: 'MOME_OVERLOADED' } };
    await page.route('**/v1/search', (route) =>
      route.fulfill({ status: 429, headers: { 'retry-after-ms': '1500', 'retry-after': '2' }, json: busy }),
    );
    await page.fill('#search-text', 'a red circle');
    await page.press('#search-text', 'Enter');
    await page.waitForSelector('#search-message .notice');
    expect(await page.textContent('#search-message')).toContain('asks to wait 1.5 s');
    const again = page.locator('#search-message button');
    expect(await again.isDisabled()).toBe(true);
    await page.unroute('**/v1/search');
    await again.click(); // waits until it can be pressed
    await page.waitForSelector('.card');
    await page.setInputFiles('#search-well-file', {
      name: 'no.png',
      mimeType: 'image/png',
      buffer: Buffer.from('GIF89a no'),
    });
    await page.waitForSelector('#search-message .notice');
    expect(await page.textContent('#search-message')).toContain('no picture that the server can read');
    await page.context().close();
  });

  it('has no panel that no model serves, says how to make an index, and asks for the key', async () => {
    const home = await temporaryFolder();
    await convertCheckpoint(await tinyModel(), home, { omit: (name) => /^(?:vqa|nlvr2)/.test(name) });
    await using small = await Vlmo.load(home);
    await mkdir(join(home, 'none'));
    const { server, url } = await started(small, { page: true, apiKeys: ['the key'] });
    const watched = await open(url);
    const { page, errors } = watched;
    await page.waitForSelector('#key-dialog:visible');
    await page.keyboard.press('Escape');
    await page.fill('#key-input', 'another');
    await page.keyboard.press('Enter');
    await page.waitForSelector('text=does not know that key');
    await page.fill('#key-input', 'the key');
    await page.check('#key-keep');
    await page.press('#key-input', 'Enter');
    await page.waitForSelector('text=This server has no index of pictures');
    expect(await page.locator('pre').textContent()).toContain('mome serve --index');
    expect(await page.locator('nav a:visible').allTextContents()).toEqual(['Search', 'Live']);
    await page.goto(`${url}/#ask`);
    await page.reload(); // the key is kept
    await page.waitForSelector('text=This server has no index of pictures');
    expect(await page.locator('#view-ask').isVisible()).toBe(false);
    expect(errors.every((text) => text.includes('401'))).toBe(true);
    await server.close();
    await page.waitForSelector('text=The server does not answer', { timeout: 15_000 });
    await page.context().close();
  });
});
