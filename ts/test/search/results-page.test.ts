/** The page of results as people use it, in Chromium and from a disk: links, filter, large pictures, keys, phones, hostile names. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { renderResults } from '../../src/search/index.ts';
import { temporaryFolder } from '../helpers.ts';

const executablePath = '/usr/bin/chromium';
const isThere = existsSync(executablePath);
if (!isThere && process.env.MOME_REQUIRE?.includes('chromium'))
  throw new Error(`expected ${executablePath}, found none`);

/** Names that would act if anything read them as HTML, as an address or as a path. */
const names = [
  'red cat.svg',
  '<img src=x onerror=hit()>.svg',
  '"><svg onload=hit()>.svg',
  "'-hit()-'.svg",
  'javascript:hit().svg',
  '%2e%2e%2fpasswd#?.svg',
  'a\u202egnp.svg',
  `${'long'.repeat(50)}.svg`,
  'blue dog.svg',
];
const svg =
  '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><script>hit()</script><circle cx="20" cy="20" r="15" fill="red"/></svg>';
const query = 'a "cat" </title><script>hit()</script>';

let browser: Browser;
let address = '';
let pictures = '';

async function open(options: BrowserContextOptions = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const errors: string[] = [];
  page.on('console', (message) => errors.push(message.text()));
  page.on('pageerror', ({ message }) => errors.push(message));
  page.on('request', (request) => {
    if (!/^(?:file|data):/.test(request.url())) errors.push(`asked for ${request.url()}`);
  });
  await page.addInitScript('window.hits = 0; window.hit = () => { window.hits++; };');
  await page.goto(address);
  const close = async () => {
    expect(errors).toEqual([]);
    expect(await page.evaluate('window.hits')).toBe(0);
    await context.close();
  };
  return { page, close };
}

const focused = (page: Page) => page.evaluate('document.activeElement.className || document.activeElement.id');

describe.skipIf(!isThere)(`the page of results${isThere ? '' : ` (skipped: no browser at ${executablePath})`}`, () => {
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
    const home = await temporaryFolder();
    pictures = join(home, 'my pictures');
    await mkdir(pictures);
    await mkdir(join(home, 'pages'));
    for (const name of names) await writeFile(join(pictures, name), svg);
    const results = names.map((name, i) => ({
      path: join(pictures, name),
      index: i,
      score: 10 - i,
      similarity: 0.5,
      match: 0.3,
      dualRank: names.length - 1 - i,
    }));
    const section = { query, results, among: 99, milliseconds: 12 };
    const file = join(home, 'pages', 'page.html');
    await writeFile(file, await renderResults(query, [section], { folder: join(home, 'pages'), model: 'tiny' }));
    address = pathToFileURL(file).href;
  }, 120_000);
  afterAll(() => browser?.close());

  it('shows names and titles as what they are, and links to the files', async () => {
    const { page, close } = await open();
    expect(await page.textContent('h1')).toBe(query);
    expect(await page.title()).toBe(query);
    expect(await page.textContent('.about')).toBe('9 of 99 pictures · 12 ms · model tiny');
    const shown = await page.locator('.name').allTextContents();
    expect(shown).toEqual(names.map((name) => name.replace('\u202e', '\\u{202e}')));
    const links = await page
      .locator('a.name')
      .evaluateAll((all) => all.map((link) => (link as HTMLAnchorElement).href));
    expect(links.map((href) => fileURLToPath(href))).toEqual(names.map((name) => join(pictures, name)));
    const texts = await page
      .locator('.results img')
      .evaluateAll((all) => all.map((image) => image.getAttribute('alt')));
    expect(texts).toEqual(shown);
    expect(await page.locator('.move').first().textContent()).toBe('▲ up 8');
    await close();
  });

  it('filters by words, with the keyboard alone', async () => {
    const { page, close } = await open();
    await page.keyboard.press('/');
    expect(await focused(page)).toBe('filter');
    await page.keyboard.type('CAT red');
    expect(await page.locator('.results > li:visible .name').allTextContents()).toEqual(['red cat.svg']);
    expect(await page.textContent('#count')).toBe('1 of 9 shown');
    await page.keyboard.type(' none');
    expect(await page.locator('.none').isVisible()).toBe(true);
    await page.keyboard.press('Escape');
    expect(await page.locator('.results > li:visible').count()).toBe(9);
    expect(await page.inputValue('#filter')).toBe('');
    await close();
  });

  it('enlarges pictures from their files, goes on with arrows, and Escape leads back', async () => {
    const { page, close } = await open();
    await page.focus('.zoom');
    await page.keyboard.press('Shift+Tab');
    await page.keyboard.press('Tab');
    expect(await page.evaluate('getComputedStyle(document.activeElement).outlineStyle')).toBe('solid');
    await page.keyboard.press('Enter');
    const large = page.locator('#large');
    await expect.poll(() => large.isVisible()).toBe(true);
    expect(await page.getAttribute('.picture', 'src')).toMatch(/^file:.*red%20cat\.svg$/);
    await expect.poll(() => page.evaluate('document.querySelector(".picture").naturalWidth')).toBe(40);
    expect(await page.locator('.facts li').allTextContents()).toEqual([
      'Place 1',
      'up 8 by re-ranking',
      'fits',
      'cosine 0.500, match 0.300',
    ]);
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowRight');
    expect(await page.textContent('.title')).toBe(names[1]);
    for (let i = 0; i < 10; i++) await page.keyboard.press('ArrowRight');
    expect(await page.textContent('.title')).toBe(names.at(-1));
    await page.keyboard.press('ArrowLeft'); // the focus is still inside
    expect(await page.textContent('.title')).toBe(names.at(-2));
    await page.keyboard.press('Escape');
    await expect.poll(() => large.isVisible()).toBe(false);
    expect(await focused(page)).toBe('zoom');
    expect(await page.evaluate('document.activeElement.closest("li").querySelector(".name").textContent')).toBe(
      names.at(-2),
    );
    await close();
  });

  it.each([360, 1280])('fits %i pixels, in the light and in the dark', async (width) => {
    for (const colorScheme of ['light', 'dark'] as const) {
      const { page, close } = await open({ viewport: { width, height: 740 }, colorScheme });
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
      const channel = await page.evaluate('Number(/\\d+/.exec(getComputedStyle(document.body).backgroundColor)[0])');
      if (colorScheme === 'dark') expect(channel).toBeLessThan(60);
      else expect(channel).toBeGreaterThan(200);
      await page.locator('.zoom').first().click();
      await expect.poll(() => page.locator('#large').isVisible()).toBe(true);
      expect(await page.evaluate('document.querySelector("#large").scrollWidth')).toBeLessThanOrEqual(width);
      await close();
    }
  });

  it('shows the same without scripts', async () => {
    const { page } = await open({ javaScriptEnabled: false });
    expect(await page.locator('.results > li:visible').count()).toBe(9);
    expect(await page.locator('#find').isVisible()).toBe(false);
    await page.context().close();
  });
});
