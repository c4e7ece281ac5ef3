/// <reference lib="dom" />
/** Results of a search: both orders side by side, or one where nothing was re-ranked. */
import { fileName, matchInWords, moveInWords, scoresAsText } from '../../../search/words.ts';
import type { FoundPicture } from './api.ts';
import { make, named, ordinal } from './dom.ts';
import { thumbnailImage } from './thumbnails.ts';

/** Opens a picture. @param among the pictures of its list, in their order */
export type OpenPicture = (index: number, among: readonly FoundPicture[]) => void;

interface List {
  readonly title: string;
  readonly about: string;
  readonly found: readonly FoundPicture[];
  /** What stands on the badge of a result. */
  readonly badge?: (result: FoundPicture, place: number) => HTMLElement;
  readonly words: (result: FoundPicture) => string;
}

/**
 * Lists of results.
 *
 * @param found all candidates, in the order of the search
 * @param count how many of each list are shown
 * @param isReranked whether the fusion encoder has read some
 */
export function resultLists(
  found: readonly FoundPicture[],
  count: number,
  isReranked: boolean,
  open: OpenPicture,
): HTMLElement {
  const similarityAlone = ({ similarity }: FoundPicture) => `cosine ${similarity.toFixed(3)}`;
  if (!isReranked) {
    const about = 'Pictures whose vectors are nearest to that of the query.';
    const only = { title: 'Nearest pictures', about, found: found.slice(0, count), words: similarityAlone };
    return make('div', { class: 'lists one' }, [list('only', only, open)]);
  }
  const placeOf = new Map(found.map(({ index }, place) => [index, place]));
  const after: List = {
    title: 'Re-ranked',
    about: 'Both encoders: the fusion encoder has read each candidate together with the text.',
    found: found.slice(0, count),
    badge: ({ dualRank }, place) => moveBadge(dualRank, place),
    words: ({ match }) => (match === null ? matchInWords(match) : `${matchInWords(match)} · match ${match.toFixed(3)}`),
  };
  const before: List = {
    title: 'Dual encoder alone',
    about: 'Before that: the pictures whose vectors are nearest to that of the text.',
    found: [...found].sort((a, b) => a.dualRank - b.dualRank).slice(0, count),
    badge: ({ index }) => nowBadge(placeOf.get(index)!, count),
    words: similarityAlone,
  };
  const lists = make('div', { class: 'lists two' }, [list('after', after, open), list('before', before, open)]);
  linkTwins(lists);
  return lists;
}

/** How many of the pictures shown have another place than by the dual encoder alone. */
export const movedOf = (found: readonly FoundPicture[], count: number): number =>
  found.slice(0, count).filter(({ dualRank }, place) => dualRank !== place).length;

function moveBadge(before: number, after: number): HTMLElement {
  const direction = before === after ? 'same' : before > after ? 'up' : 'down';
  const arrow = { same: '=', up: '▲', down: '▼' }[direction];
  const steps = before === after ? '' : ` ${Math.abs(before - after)}`;
  const words =
    before === after ? moveInWords(before, after) : `${moveInWords(before, after)}, was ${ordinal(before + 1)}`;
  return make('span', { class: `move ${direction}`, title: words }, [
    make('span', { 'aria-hidden': 'true' }, [`${arrow}${steps}`]),
    make('span', { class: 'hidden' }, [words]),
  ]);
}

function nowBadge(place: number, count: number): HTMLElement {
  return make('span', { class: `move now${place < count ? '' : ' out'}` }, [`now ${ordinal(place + 1)}`]);
}

function list(id: string, { title, about, found, badge, words }: List, open: OpenPicture): HTMLElement {
  const cards = found.map((result, place) => {
    const { path, index, similarity, match } = result;
    const name = fileName(path);
    const button = make(
      'button',
      { type: 'button', class: 'card', 'data-index': index, title: scoresAsText(similarity, match) },
      [
        make('span', { class: 'place' }, [make('span', { class: 'hidden' }, ['Place ']), String(place + 1)]),
        thumbnailImage(index, ''),
        make('span', { class: 'text' }, [
          make('span', { class: 'name' }, [named(name)]),
          make('span', { class: 'words' }, [words(result)]),
        ]),
        badge?.(result, place),
      ],
      { click: () => open(index, found) },
    );
    return make('li', {}, [button]);
  });
  return make('section', { class: 'list', 'aria-labelledby': `list-${id}` }, [
    make('h2', { id: `list-${id}` }, [title]),
    make('p', { class: 'about-list' }, [about]),
    make('ol', { class: 'results' }, cards),
  ]);
}

/** Whatever shows a picture in one list is marked with it in the other. */
function linkTwins(lists: HTMLElement): void {
  const mark = (target: EventTarget | null) => {
    const index = (target as HTMLElement | null)?.closest<HTMLElement>('.card')?.dataset.index;
    for (const card of lists.querySelectorAll<HTMLElement>('.card'))
      card.classList.toggle('twin', index !== undefined && card.dataset.index === index);
  };
  lists.addEventListener('pointerover', ({ target }) => mark(target));
  lists.addEventListener('pointerleave', () => mark(null));
  lists.addEventListener('focusin', ({ target }) => mark(target));
  lists.addEventListener('focusout', () => mark(null));
}
