/// <reference lib="dom" />
/** The page of a server: views, what the server can do, its figures, and its key. */
import type { PageState } from '../messages.ts';
import { AskView, JudgeView } from './answer-views.ts';
import * as api from './api.ts';
import { byId, fill, make, plural } from './dom.ts';
import { LiveView } from './live-view.ts';
import { SearchView } from './search-view.ts';
import { forgetThumbnails } from './thumbnails.ts';
import { listenForPictures } from './well.ts';

const viewNames = ['search', 'ask', 'judge', 'live'] as const;
type ViewName = (typeof viewNames)[number];

/** Milliseconds between two looks at the figures, and between two tries where the server does not answer. */
const lookEvery = 1000;
const tryAgainEvery = 3000;

interface Views {
  readonly search: SearchView;
  readonly ask: AskView;
  readonly judge: JudgeView;
}

const live = new LiveView();
let views: Views | undefined;
let stamp: string | undefined;
let shown: ViewName | undefined;
const present = new Set<ViewName>(['search', 'live']);

/** Shows the view that the address names; the first where it names one that is not there. */
function showView(hasFocus: boolean): void {
  const wanted = location.hash.slice(1) as ViewName;
  if (location.hash === '#main' && shown !== undefined) return; // the link that skips to the content
  const name = present.has(wanted) ? wanted : 'search';
  shown = name;
  for (const each of viewNames) byId(`view-${each}`).hidden = each !== name;
  for (const link of document.querySelectorAll<HTMLElement>('nav [data-view]')) {
    if (link.dataset.view === name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const title = byId(`title-${name}`);
  document.title = `${title.textContent} · mome`;
  if (name === 'live') live.draw();
  if (!hasFocus) return;
  title.focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
}

/** Takes what the server says of itself, at the start and whenever a model was replaced. */
function take(state: PageState): void {
  if (stamp !== undefined && stamp !== state.stamp) forgetThumbnails();
  stamp = state.stamp;
  views ??= {
    search: new SearchView(state, { ask: () => (present.has('ask') ? askAbout : undefined) }),
    ask: new AskView(state),
    judge: new JudgeView(state),
  };
  views.search.update(state);
  offer('ask', views.ask.update(state));
  offer('judge', views.judge.update(state));
  live.showModels(state.models);
  const { models, index, version } = state;
  const first = models[0]!;
  const where = first.device === 'cpu' ? `processor (${first.target})` : first.device;
  const parts = [models.length === 1 ? `model ${first.name}` : plural(models.length, 'model'), where];
  const more = [first.dtype, ...(index ? [plural(index.pictures, 'picture')] : []), `mome ${version}`];
  fill(
    byId('about'),
    ...parts.map((part) => make('span', {}, [part])),
    ...more.map((part) => make('span', { class: 'more' }, [part])),
  );
  showView(false);
}

function askAbout(picture: Blob, name: string): void {
  location.hash = 'ask';
  showView(false); // at once: the field that is focused next has to be visible
  views?.ask.take(picture, name);
}

/** A view that no model can serve is not there. */
function offer(name: ViewName, isPresent: boolean): void {
  if (isPresent) present.add(name);
  else present.delete(name);
  document.querySelector<HTMLElement>(`nav [data-view="${name}"]`)!.hidden = !isPresent;
}

/** Asks for a key until there is one. The dialog cannot be left without: nothing works then. */
async function askForKey(wasWrong: boolean): Promise<void> {
  const dialog = byId<HTMLDialogElement>('key-dialog');
  const input = byId<HTMLInputElement>('key-input');
  if (wasWrong) byId('key-message').textContent = 'The server does not know that key. Try another.';
  input.value = '';
  if (!dialog.open) dialog.showModal();
  input.focus();
  await new Promise<void>((resolve) => {
    byId<HTMLFormElement>('key-form').addEventListener(
      'submit',
      () => {
        api.setKey(input.value.trim(), byId<HTMLInputElement>('key-keep').checked);
        input.value = '';
        resolve();
      },
      { once: true },
    );
  });
}

function say(text: string): void {
  const banner = byId('banner');
  const known = banner.textContent ?? '';
  if (known !== text) fill(banner, text === '' ? undefined : make('p', {}, [text]));
  byId('strip-dot').classList.toggle('bad', text !== '');
}

/** Follows the server's figures for as long as the page is seen. */
async function follow(): Promise<never> {
  let next = 0;
  for (;;) {
    let wait = lookEvery;
    try {
      if (stamp === undefined) take(await api.state());
      const answer = await api.live(next);
      const isAnew = answer.next < next; // the server was started again
      if (isAnew || answer.stamp !== stamp) {
        take(await api.state());
        if (isAnew) next = 0;
      }
      if (!isAnew) {
        live.add(answer.samples, next === 0);
        next = answer.next;
      }
      say(answer.isReady ? '' : 'The server is ending: it answers what is under way and takes nothing new.');
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      wait = Math.max(tryAgainEvery, error.retryAfterMs ?? 0);
      say(
        error.status === 0
          ? 'The server does not answer. The page tries again.'
          : `The server answers with an error: ${error.message}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (document.hidden)
      await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }));
  }
}

const keyDialog = byId<HTMLDialogElement>('key-dialog');
keyDialog.addEventListener('cancel', (event) => event.preventDefault());
api.onKeyWanted(askForKey);
listenForPictures();
window.addEventListener('hashchange', () => showView(true));
window.addEventListener('resize', () => live.draw());
showView(false);
void follow();
