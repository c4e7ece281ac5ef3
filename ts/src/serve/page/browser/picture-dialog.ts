/// <reference lib="dom" />
/** One picture of the index, large, with what is known of it and what can be done with it. */
import { fileName, matchInWords, moveInWords } from '../../../search/words.ts';
import * as api from './api.ts';
import { byId, fill, make, named, ordinal } from './dom.ts';

/** A picture that is shown: a result, or one of the index without a query. */
export type ShownPicture = Pick<api.FoundPicture, 'index' | 'path'> & Partial<api.FoundPicture>;

export interface PictureActions {
  /** Looks for pictures like this one. */
  readonly findSimilar: (picture: Blob, name: string) => void;
  /** Asks about it; undefined where no model answers. */
  readonly ask: ((picture: Blob, name: string) => void) | undefined;
}

export class PictureDialog {
  readonly #dialog = byId<HTMLDialogElement>('picture-dialog');
  #stop = new AbortController();
  #url: string | undefined;
  #step: ((by: number) => void) | undefined;

  constructor() {
    this.#dialog.addEventListener('close', () => this.#release());
    this.#dialog.addEventListener('click', ({ target }) => {
      if (target === this.#dialog) this.#dialog.close(); // beside what it holds
    });
    this.#dialog.addEventListener('keydown', ({ key }) => {
      if (key === 'ArrowLeft') this.#step?.(-1);
      else if (key === 'ArrowRight') this.#step?.(1);
    });
  }

  /** Shows picture `place` of `among`. */
  show(place: number, among: readonly ShownPicture[], actions: PictureActions): void {
    this.#release();
    this.#stop = new AbortController();
    const shown = among[place]!;
    const name = fileName(shown.path);
    this.#step = (by) => {
      const next = place + by;
      if (next >= 0 && next < among.length) this.show(next, among, actions);
    };
    const frame = make('div', { class: 'large', 'aria-busy': true });
    const close = () => this.#dialog.close();
    const act = (label: string, action: (picture: Blob, name: string) => void) => {
      const button = make('button', { type: 'button', disabled: true }, [label]);
      return {
        button,
        enable: (picture: Blob) => {
          button.disabled = false;
          button.addEventListener('click', () => {
            close();
            action(picture, name);
          });
        },
      };
    };
    const buttons = [
      act('Find similar pictures', actions.findSimilar),
      ...(actions.ask ? [act('Ask about it', actions.ask)] : []),
    ];
    const steps = [-1, 1].map((by) =>
      make(
        'button',
        { type: 'button', class: 'plain', disabled: place + by < 0 || place + by >= among.length, 'data-step': by },
        [by < 0 ? '← Previous' : 'Next →'],
        { click: () => this.#step?.(by) },
      ),
    );
    const hadFocus = this.#dialog.querySelector<HTMLElement>(':focus')?.dataset.step;
    fill(
      this.#dialog,
      make('div', { class: 'inside' }, [
        make('header', {}, [
          make('h2', { id: 'picture-name' }, [named(name)]),
          make('button', { type: 'button', class: 'plain close' }, ['Close'], { click: close }),
        ]),
        frame,
        factsOf(shown, place),
        make('footer', {}, [...buttons.map(({ button }) => button), make('span', { class: 'grow' }), ...steps]),
      ]),
    );
    if (!this.#dialog.open) this.#dialog.showModal();
    const again = hadFocus && this.#dialog.querySelector<HTMLButtonElement>(`[data-step="${hadFocus}"]:enabled`);
    (again || this.#dialog.querySelector<HTMLElement>('.close'))?.focus();
    void this.#load(shown.index, frame, (picture) => {
      for (const { enable } of buttons) enable(picture);
    });
  }

  async #load(index: number, frame: HTMLElement, loaded: (picture: Blob) => void): Promise<void> {
    const { signal } = this.#stop;
    try {
      const picture = await api.picture(index, 'pictures', signal);
      if (signal.aborted) return;
      this.#url = URL.createObjectURL(picture);
      fill(frame, make('img', { alt: 'The picture, as the index has it', src: this.#url }));
      loaded(picture);
    } catch (error) {
      if (signal.aborted) return;
      const isGone = (error as api.ApiError).status === 404;
      const text = isGone
        ? 'The file of this picture can no longer be read. "mome search" brings the index up to date.'
        : `The picture could not be loaded. ${(error as Error).message}`;
      fill(frame, make('p', { class: 'gone' }, [text]));
    } finally {
      if (!signal.aborted) frame.removeAttribute('aria-busy');
    }
  }

  #release(): void {
    this.#stop.abort();
    this.#step = undefined;
    if (this.#url !== undefined) URL.revokeObjectURL(this.#url);
    this.#url = undefined;
  }
}

function factsOf({ path, index, similarity, match, dualRank, score }: ShownPicture, place: number): HTMLElement {
  const facts: [string, string | HTMLElement][] = [['File', named(path)]];
  if (similarity !== undefined && dualRank !== undefined && score !== undefined) {
    facts.push(['By the dual encoder', `${ordinal(dualRank + 1)}, cosine ${similarity.toFixed(3)}`]);
    if (match !== null && match !== undefined) {
      facts.push(['The fusion encoder says', `${matchInWords(match)}, match ${match.toFixed(3)}`]);
      facts.push(['Score of both', score.toFixed(2)]);
      facts.push([
        'Place in this list',
        `${ordinal(place + 1)}${dualRank === place ? '' : `, ${moveInWords(dualRank, place)}`}`,
      ]);
    }
  }
  facts.push(['Number in the index', String(index)]);
  const rows = facts.flatMap(([term, value]) => [make('dt', {}, [term]), make('dd', {}, [value])]);
  return make('dl', { class: 'facts' }, rows);
}
