/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
/**
 * What the page of results does in a browser: it filters by name and enlarges pictures. Without it the page shows the same results. It
 * stands inside the page, so it imports nothing.
 */

const filter = document.querySelector<HTMLInputElement>('#filter');
const count = document.querySelector('#count');
const dialog = document.querySelector<HTMLDialogElement>('#large');
const items = [...document.querySelectorAll<HTMLElement>('.results > li')];
const folded = (text: string): string => text.normalize('NFKD').toLowerCase();
const nameOf = (item: HTMLElement): string => item.querySelector('.name')?.textContent ?? '';

/** Shows the items whose names have every word of the filter. */
function applyFilter(): void {
  const words = folded(filter?.value ?? '')
    .split(/\s+/)
    .filter((word) => word !== '');
  let shown = 0;
  for (const item of items) {
    const name = folded(nameOf(item));
    item.hidden = !words.every((word) => name.includes(word));
    if (!item.hidden) shown++;
  }
  for (const list of document.querySelectorAll('.results')) {
    const note = list.nextElementSibling as HTMLElement | null;
    const isEmpty = list.children.length > 0 && list.querySelector(':scope > li:not([hidden])') === null;
    if (note?.classList.contains('none')) note.hidden = !isEmpty;
  }
  if (count) count.textContent = words.length === 0 ? '' : `${shown} of ${items.length} shown`;
}

/** The item that is large, and how to get from it to its neighbours. */
let current: HTMLElement | undefined;

function neighbour(step: number): HTMLElement | undefined {
  const visible = [...(current?.parentElement?.querySelectorAll<HTMLElement>(':scope > li:not([hidden])') ?? [])];
  return current && visible[visible.indexOf(current) + step];
}

/** Shows the picture of an item, from its file where that can still be loaded, and what the page says of it. */
function enlarge(item: HTMLElement): void {
  const part = <T extends HTMLElement>(name: string) => dialog!.querySelector<T>(`.${name}`)!;
  current = item;
  const small = item.querySelector('img');
  const large = part<HTMLImageElement>('picture');
  const link = item.querySelector<HTMLAnchorElement>('a.name');
  const file = part<HTMLAnchorElement>('file');
  large.hidden = small === null;
  large.alt = small?.alt ?? '';
  large.onerror = () => {
    large.onerror = null;
    large.src = small?.src ?? '';
  };
  large.src = link?.href ?? small?.src ?? '';
  file.hidden = link === null;
  file.href = link?.href ?? '';
  part('title').textContent = nameOf(item);
  part('facts').replaceChildren(
    ...[...item.querySelectorAll('.rank, .move, .says, .numbers')].map((fact) => {
      const term = document.createElement('li');
      term.textContent = fact.getAttribute('aria-label') ?? fact.textContent;
      return term;
    }),
  );
  for (const step of [-1, 1])
    dialog!.querySelector<HTMLButtonElement>(`[data-step="${step}"]`)!.disabled = !neighbour(step);
  if (!dialog!.open) dialog!.showModal();
}

function go(step: number): void {
  const next = neighbour(step);
  if (!next) return;
  enlarge(next);
  // A button that is now disabled has lost the focus, and with it the keys.
  if (document.activeElement === document.body || document.activeElement?.matches(':disabled'))
    dialog?.querySelector<HTMLElement>('button:enabled')?.focus();
}

if (filter) {
  filter.closest<HTMLElement>('form')!.hidden = false;
  filter.addEventListener('input', applyFilter);
  filter.form?.addEventListener('submit', (event) => event.preventDefault());
  filter.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    event.preventDefault();
    filter.value = '';
    applyFilter();
  });
  document.addEventListener('keydown', (event) => {
    const isTyping = event.target instanceof HTMLInputElement;
    if (event.key !== '/' || isTyping || event.ctrlKey || event.altKey || event.metaKey || dialog?.open) return;
    event.preventDefault();
    filter.focus();
    filter.select();
  });
  applyFilter(); // a browser that comes back fills in what stood there
}

if (dialog) {
  document.addEventListener('click', (event) => {
    const opener = (event.target as Element).closest('.zoom');
    // With a key held, a link does what links do: another tab, or a download.
    if (!opener || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    enlarge(opener.closest('li')!);
  });
  dialog.addEventListener('click', ({ target }) => {
    if (target === dialog) dialog.close(); // beside what it holds
    const step = (target as Element).closest<HTMLElement>('[data-step]')?.dataset.step;
    if (step) go(Number(step));
    if ((target as Element).closest('.close')) dialog.close();
  });
  dialog.addEventListener('keydown', ({ key }) => {
    if (key === 'ArrowLeft') go(-1);
    else if (key === 'ArrowRight') go(1);
  });
  dialog.addEventListener('close', () => {
    current?.querySelector<HTMLElement>('.zoom')?.focus(); // the picture that was seen last
    current = undefined;
  });
}
