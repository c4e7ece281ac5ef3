/// <reference lib="dom" />
/** A place for a picture: it is chosen, dropped or pasted, shown, and can be taken away. */
import { fill, make, mebibytes, named } from './dom.ts';

export interface WellOptions {
  /** What is asked for, such as `Left picture`. */
  readonly label: string;
  /** Most bytes of a file. */
  readonly bytes: number;
  /** Called when the picture is another, or none. */
  readonly onChange?: () => void;
  /** Tells what is wrong with something that was dropped, pasted or chosen. */
  readonly complain: (title: string, detail: string) => void;
}

const wells = new Set<Well>();

export class Well {
  readonly #element: HTMLElement;
  readonly #options: WellOptions;
  readonly #input: HTMLInputElement;
  readonly #choose: HTMLLabelElement;
  readonly #shown = make('div', { class: 'shown', hidden: true });
  #picture: Blob | undefined;
  #url: string | undefined;

  constructor(element: HTMLElement, options: WellOptions) {
    this.#element = element;
    this.#options = options;
    const id = `${element.id}-file`;
    // A picture from elsewhere on the machine has any type: the server looks at its bytes.
    this.#input = make('input', { type: 'file', id, class: 'hidden', accept: 'image/*' }, [], {
      change: () => {
        const [file] = this.#input.files ?? [];
        if (file) this.take(file, file.name);
        this.#input.value = '';
      },
    });
    const hint = make('span', { class: 'hint' }, ['choose, drop or paste']);
    this.#choose = make('label', { for: id, class: 'choose' }, [make('span', {}, [options.label]), hint]);
    fill(element, this.#input, this.#choose, this.#shown);
    this.#listen(element);
    wells.add(this);
  }

  get picture(): Blob | undefined {
    return this.#picture;
  }

  /** Whether the user sees it at the moment. */
  get isVisible(): boolean {
    return this.#element.offsetParent !== null;
  }

  /** Takes a picture. @param name what it is called beside it */
  take(picture: Blob, name: string): void {
    const { bytes, complain } = this.#options;
    if (picture.size > bytes) {
      complain(
        'That picture is too large',
        `This server takes ${mebibytes(bytes)}; it has ${mebibytes(picture.size)}.`,
      );
      return;
    }
    this.#release();
    this.#picture = picture;
    this.#url = URL.createObjectURL(picture);
    const image = make('img', { alt: '', src: this.#url }, [], {
      error: () => image.replaceWith(make('span', { class: 'hint' }, ['no preview'])),
    });
    const remove = make('button', { type: 'button', class: 'plain' }, ['Remove'], {
      click: () => {
        this.empty();
        this.#input.focus();
      },
    });
    const caption = make('span', { class: 'name' }, [
      make('span', { class: 'hidden' }, [`${this.#options.label}: `]),
      named(name),
    ]);
    fill(this.#shown, image, caption, remove);
    this.#set(true);
  }

  empty(): void {
    this.#release();
    this.#picture = undefined;
    fill(this.#shown);
    this.#set(false);
  }

  #set(isFull: boolean): void {
    this.#shown.hidden = !isFull;
    this.#choose.hidden = isFull;
    this.#element.classList.toggle('full', isFull);
    this.#options.onChange?.();
  }

  #release(): void {
    if (this.#url !== undefined) URL.revokeObjectURL(this.#url);
    this.#url = undefined;
  }

  #listen(element: HTMLElement): void {
    const over = (event: DragEvent) => {
      event.preventDefault();
      element.classList.add('over');
    };
    element.addEventListener('dragenter', over);
    element.addEventListener('dragover', over);
    element.addEventListener('dragleave', (event) => {
      if (!element.contains(event.relatedTarget as Node | null)) element.classList.remove('over');
    });
    element.addEventListener('drop', (event) => {
      event.preventDefault();
      event.stopPropagation();
      element.classList.remove('over');
      if (event.dataTransfer) this.takeFrom(event.dataTransfer);
    });
  }

  /** Takes the first file of what was dropped or pasted. @returns whether there was anything to say about it */
  takeFrom(data: DataTransfer): boolean {
    const [file] = data.files;
    if (file) this.take(file, file.name);
    else if (data.types.includes('text/uri-list'))
      this.#options.complain(
        'That is the address of a picture',
        'This page fetches nothing: save the picture, then drop the file.',
      );
    else return false;
    return true;
  }
}

/** The well that a picture without a place belongs to: the first empty one that is visible, else the first. */
function freeWell(): Well | undefined {
  const visible = [...wells].filter(({ isVisible }) => isVisible);
  return visible.find(({ picture }) => picture === undefined) ?? visible[0];
}

/** Pictures that are pasted, or dropped beside a well, go into one that is free. Without this a dropped file would replace the page. */
export function listenForPictures(): void {
  document.addEventListener('paste', (event) => {
    if (event.clipboardData?.files.length && freeWell()?.takeFrom(event.clipboardData)) event.preventDefault();
  });
  document.addEventListener('dragover', (event) => event.preventDefault());
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    if (event.dataTransfer?.files.length) freeWell()?.takeFrom(event.dataTransfer);
  });
}
