/// <reference lib="dom" />
/** The view that searches the index. */
import { printable } from '../../../runtime/printable.ts';
import { fileName } from '../../../search/words.ts';
import type { NamedPicture, PageState } from '../messages.ts';
import * as api from './api.ts';
import { byId, duration, fill, make, number, plural } from './dom.ts';
import { type PictureActions, PictureDialog } from './picture-dialog.ts';
import { movedOf, resultLists } from './results.ts';
import { Task } from './task.ts';
import { thumbnailImage } from './thumbnails.ts';
import { Well } from './well.ts';

export interface SearchActions {
  /** Opens the view that asks about a picture; undefined where no model answers. */
  readonly ask: () => ((picture: Blob, name: string) => void) | undefined;
}

export class SearchView {
  readonly #task = new Task(byId('search-message'));
  readonly #dialog = new PictureDialog();
  readonly #actions: SearchActions;
  readonly #well: Well;
  readonly #text = byId<HTMLInputElement>('search-text');
  readonly #rerank = byId<HTMLSelectElement>('search-rerank');
  readonly #count = byId<HTMLSelectElement>('search-count');
  readonly #status = byId('search-status');
  readonly #results = byId('search-results');
  #canMatch = false;
  #pictures = 0;
  #some: readonly NamedPicture[] = [];

  constructor({ limits }: PageState, actions: SearchActions) {
    this.#actions = actions;
    this.#well = new Well(byId('search-well'), {
      label: 'or a picture',
      bytes: limits.pictureBytes,
      complain: (title, detail) => this.#task.complain(title, detail),
      onChange: () => {
        if (!this.#well.picture) return;
        this.#text.value = '';
        this.#start();
      },
    });
    const form = byId<HTMLFormElement>('search-form');
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#start();
    });
    form.addEventListener('keydown', ({ key }) => {
      if (key === 'Escape' && this.#task.isRunning) this.#stopped();
    });
    this.#text.addEventListener('input', () => {
      if (this.#text.value !== '') this.#well.empty();
    });
    for (const select of [this.#rerank, this.#count])
      select.addEventListener('change', () => {
        if (this.#text.value.trim() !== '' || this.#well.picture) this.#start();
      });
  }

  /** Shows what the server has: a search, or how to make an index. */
  update({ index, hasStore, models }: PageState): void {
    this.#pictures = index?.pictures ?? 0;
    this.#some = index?.some ?? [];
    const abilities = models[0]?.abilities ?? [];
    const canSearch = index !== undefined && abilities.includes('embed');
    this.#canMatch = abilities.includes('match');
    byId('search-form').hidden = !canSearch || this.#pictures === 0;
    byId('title-search').textContent =
      this.#pictures === 0 ? 'Search pictures' : `Search ${plural(this.#pictures, 'picture')}`;
    const field = this.#rerank.closest('label')!;
    field.hidden = !this.#canMatch;
    if (!canSearch) fill(this.#results, index ? unable() : hasStore ? ofStore() : withoutIndex());
    else if (this.#pictures === 0) fill(this.#results, emptyIndex());
    else if (!this.#results.hasChildNodes()) fill(this.#results, this.#firstLook());
  }

  /** Some pictures of the index, so that one sees what can be found. */
  #firstLook(): HTMLElement {
    const words = this.#canMatch
      ? 'Both orders appear here side by side: by the dual encoder alone, and re-ranked by the fusion encoder. Until then, some of the pictures:'
      : 'The nearest pictures appear here. The model has no matching head, so nothing is re-ranked. Until then, some of the pictures:';
    const pictures = this.#some.map((shown, place) => {
      const open = () => this.#dialog.show(place, this.#some, this.#pictureActions());
      const label = `Open ${printable(fileName(shown.path))}`;
      return make('li', {}, [
        make('button', { type: 'button', 'aria-label': label }, [thumbnailImage(shown.index, '')], { click: open }),
      ]);
    });
    return make('div', {}, [make('p', { class: 'empty' }, [words]), make('ol', { class: 'mosaic' }, pictures)]);
  }

  #pictureActions(): PictureActions {
    const findSimilar = (picture: Blob, name: string) => {
      this.#well.take(picture, name);
      window.scrollTo({ top: 0 });
      this.#text.focus();
    };
    return { findSimilar, ask: this.#actions.ask() };
  }

  #stopped(): void {
    this.#task.stop();
    this.#results.removeAttribute('aria-busy');
    fill(this.#results, this.#firstLook());
    this.#status.textContent = 'Stopped.';
  }

  #start(): void {
    const text = this.#text.value.trim();
    const { picture } = this.#well;
    if (text === '' && !picture) {
      this.#task.complain('There is nothing to look for yet', 'Type a few words, or choose, drop or paste a picture.');
      return;
    }
    void this.#search(picture && text === '' ? { image: picture } : { text });
  }

  async #search(query: { readonly text: string } | { readonly image: Blob }): Promise<void> {
    const count = Math.min(Number(this.#count.value), this.#pictures);
    const rerank = 'text' in query && this.#canMatch ? Number(this.#rerank.value) : 0;
    this.#results.setAttribute('aria-busy', 'true');
    this.#status.textContent = 'Searching …';
    if (!this.#results.querySelector('.card')) fill(this.#results, placeholders(count, rerank > 0));
    const begun = performance.now();
    // All that is re-ranked is asked for: the order before is among it.
    const found = await this.#task.run(
      (signal) => api.search(query, Math.max(count, Math.min(rerank, this.#pictures)), rerank, signal),
      () => this.#start(),
    );
    if (this.#task.isRunning) return; // another search is under way
    this.#results.removeAttribute('aria-busy');
    if (!found) {
      if (this.#results.querySelector('.placeholder')) fill(this.#results, this.#firstLook());
      if (this.#status.textContent === 'Searching …') this.#status.textContent = '';
      return;
    }
    const isReranked = found.some(({ match }) => match !== null);
    const open = (index: number, among: readonly api.FoundPicture[]) => {
      const place = among.findIndex((each) => each.index === index);
      this.#dialog.show(place, among, this.#pictureActions());
    };
    fill(this.#results, resultLists(found, count, isReranked, open));
    this.#status.textContent = summary(query, found, count, isReranked, this.#pictures, performance.now() - begun);
  }
}

function summary(
  query: object,
  found: readonly api.FoundPicture[],
  count: number,
  isReranked: boolean,
  pictures: number,
  milliseconds: number,
): string {
  const shown = Math.min(count, found.length);
  const first = `${number(shown)} of ${plural(pictures, 'picture')} in ${duration(milliseconds)}.`;
  if (isReranked) {
    const moved = movedOf(found, count);
    return `${first} Re-ranking ${moved === 0 ? 'moved none of them' : `moved ${moved} of them`}.`;
  }
  return 'image' in query ? `${first} Pictures are compared by their vectors alone; re-ranking is for texts.` : first;
}

function placeholders(count: number, isTwo: boolean): HTMLElement {
  const list = () =>
    make('div', { class: 'list' }, [
      make(
        'ol',
        { class: 'results' },
        Array.from({ length: Math.min(count, 6) }, () => make('li', { class: 'placeholder' })),
      ),
    ]);
  return make(
    'div',
    { class: `lists ${isTwo ? 'two' : 'one'}`, 'aria-hidden': 'true' },
    isTwo ? [list(), list()] : [list()],
  );
}

const notice = (title: string, ...parts: readonly (HTMLElement | string)[]): HTMLElement =>
  make('div', { class: 'notice' }, [make('h2', {}, [title]), ...parts]);

const commands = (...lines: readonly string[]): HTMLElement =>
  make('pre', { tabindex: '0' }, [make('code', {}, [lines.join('\n')])]);

function withoutIndex(): HTMLElement {
  return notice(
    'This server has no index of pictures',
    make('p', {}, ['Make one of a folder, with the model that the server runs first, and start the server with it:']),
    commands(
      'mome search ~/Pictures --index pictures.safetensors --model <the same model>',
      'mome serve --index pictures.safetensors --model <the same model>',
    ),
    make('p', {}, [
      'Without --model both take the model that ships with mome. Everything else on this page works meanwhile.',
    ]),
  );
}

function ofStore(): HTMLElement {
  return notice(
    'This server searches a store of vectors',
    make('p', {}, [
      'Its rows have no pictures that this page could show: programs search it by POST /v1/search. Everything else on this page works.',
    ]),
  );
}

function emptyIndex(): HTMLElement {
  return notice(
    'The index of this server holds no pictures',
    make('p', {}, ['Put pictures into its folder, run "mome search" on it again, and start the server anew.']),
  );
}

function unable(): HTMLElement {
  return notice(
    'The first model of this server cannot search',
    make('p', {}, ['It has no contrastive head. A pre-trained file, or one tuned for retrieval, has one.']),
  );
}
