/// <reference lib="dom" />
/** The views that ask about a picture and judge a statement about two; each is there where a model has the head. */

import type { Ability } from '../../../inference/index.ts';
import { truthInWords } from '../../../search/words.ts';
import type { PageModel, PageState } from '../messages.ts';
import * as api from './api.ts';
import { byId, fill, make } from './dom.ts';
import { Task } from './task.ts';
import { Well } from './well.ts';

const percent = (share: number): string => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

/** A bar as long as a share, with the share as text beside it. */
function bar(share: number): HTMLElement {
  const filled = make('span', { class: 'filled' });
  filled.style.setProperty('inline-size', `${Math.max(0, Math.min(1, share)) * 100}%`);
  return make('span', { class: 'bar-of', 'aria-hidden': 'true' }, [filled]);
}

abstract class AnswerView {
  protected readonly name: 'ask' | 'judge';
  protected readonly task: Task;
  protected readonly result: HTMLElement;
  readonly #ability: Ability;

  constructor(name: 'ask' | 'judge', ability: Ability) {
    this.name = name;
    this.#ability = ability;
    this.task = new Task(byId(`${name}-message`));
    this.result = byId(`${name}-result`);
    const form = byId<HTMLFormElement>(`${name}-form`);
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.start();
    });
    form.addEventListener('keydown', ({ key }) => {
      if (key !== 'Escape' || !this.task.isRunning) return;
      this.task.stop();
      this.rest('Stopped.');
    });
  }

  /** Shows the models that can do it. @returns whether there are any */
  update({ models }: PageState): boolean {
    const able = models.filter(({ abilities }) => abilities.includes(this.#ability));
    const select = this.select;
    const chosen = select.value;
    fill(
      select,
      ...able.map(({ name }: PageModel) => make('option', { value: name, selected: name === chosen }, [name])),
    );
    select.closest<HTMLElement>('.model-field')!.hidden = models.length === 1;
    return able.length > 0;
  }

  protected get select(): HTMLSelectElement {
    return byId<HTMLSelectElement>(`${this.name}-model`);
  }

  protected textOf(id: string): string {
    return byId<HTMLInputElement>(id).value.trim();
  }

  protected well(id: string, label: string, bytes: number): Well {
    return new Well(byId(id), { label, bytes, complain: (title, detail) => this.task.complain(title, detail) });
  }

  protected rest(text: string): void {
    this.result.removeAttribute('aria-busy');
    fill(this.result, make('p', { class: 'empty' }, [text]));
  }

  protected wait(text: string): void {
    fill(this.result, make('p', { class: 'empty working' }, [text]));
    this.result.setAttribute('aria-busy', 'true');
  }

  protected show(...parts: readonly HTMLElement[]): void {
    this.result.removeAttribute('aria-busy');
    fill(this.result, ...parts);
  }

  protected abstract start(): void;
}

export class AskView extends AnswerView {
  readonly #well: Well;

  constructor({ limits }: PageState) {
    super('ask', 'answer');
    this.#well = this.well('ask-well', 'Picture', limits.pictureBytes);
  }

  /** Puts a picture in, as from a result of a search. */
  take(picture: Blob, name: string): void {
    this.#well.take(picture, name);
    byId('ask-question').focus();
  }

  protected start(): void {
    const question = this.textOf('ask-question');
    const { picture } = this.#well;
    if (!picture) this.task.complain('There is no picture yet', 'Choose, drop or paste one.');
    else if (question === '') this.task.complain('There is no question yet', 'Type one, then press Enter.');
    else void this.#ask(picture, question);
  }

  async #ask(picture: Blob, question: string): Promise<void> {
    this.wait('Looking …');
    const again = () => this.start();
    const answers = await this.task.run((signal) => api.answer(picture, question, this.select.value, signal), again);
    if (!answers) {
      if (!this.task.isRunning) this.rest('No answer.');
      return;
    }
    const rows = answers.map(({ answer, score }) =>
      make('li', {}, [
        make('span', { class: 'answer' }, [answer]),
        bar(score),
        make('span', { class: 'share' }, [percent(score)]),
      ]),
    );
    this.show(make('p', { class: 'question' }, [question]), make('ol', { class: 'answers' }, rows));
  }
}

export class JudgeView extends AnswerView {
  readonly #left: Well;
  readonly #right: Well;

  constructor({ limits }: PageState) {
    super('judge', 'reason');
    this.#left = this.well('judge-left', 'Left picture', limits.pictureBytes);
    this.#right = this.well('judge-right', 'Right picture', limits.pictureBytes);
  }

  protected start(): void {
    const statement = this.textOf('judge-statement');
    const pictures = [this.#left.picture, this.#right.picture].filter((picture) => picture !== undefined);
    if (pictures.length < 2) this.task.complain('Two pictures are needed', 'Choose, drop or paste them.');
    else if (statement === '') this.task.complain('There is no statement yet', 'Type one, then press Enter.');
    else void this.#judge(pictures, statement);
  }

  async #judge(pictures: readonly Blob[], statement: string): Promise<void> {
    this.wait('Reading …');
    const again = () => this.start();
    const model = this.select.value;
    const probability = await this.task.run((signal) => api.reason(pictures, statement, model, signal), again);
    if (probability === undefined) {
      if (!this.task.isRunning) this.rest('No judgement.');
      return;
    }
    this.show(
      make('p', { class: 'question' }, [statement]),
      make('p', { class: 'verdict' }, [truthInWords(probability)]),
      make('div', { class: 'truth' }, [
        bar(probability),
        make('span', { class: 'share' }, [`${percent(probability)} true`]),
      ]),
    );
  }
}
