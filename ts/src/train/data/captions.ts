/** Captions for labelled pictures: many ways to say the same for training, exactly one for evaluation. */
import { check } from '../../runtime/errors.ts';
import type { Random } from '../random.ts';

/** The source of a caption. */
export interface Labelled {
  readonly label: string;
  readonly tags: readonly string[];
}

/** Relative weight of each kind of caption; 0 switches it off. */
export interface CaptionOptions {
  /** The label alone. */
  readonly label: number;
  /** The label, then one to `mostTags` tags in random order. */
  readonly labelAndTags: number;
  /** Two to `mostTags` tags without the label. Entries with fewer than two tags get their label instead. */
  readonly tags: number;
  /** The label in a short phrase such as "a drawing of ...". */
  readonly template: number;
  readonly mostTags: number;
}

export const captionDefaults: CaptionOptions = {
  label: 0.4,
  labelAndTags: 0.25,
  tags: 0.15,
  template: 0.2,
  mostTags: 5,
};

/** The label alone, always: what {@link evaluationCaption} says. */
export const captionLabelOnly: CaptionOptions = { label: 1, labelAndTags: 0, tags: 0, template: 0, mostTags: 1 };

const templates: readonly (readonly [before: string, after: string])[] = [
  ['a drawing of ', ''],
  ['a picture of ', ''],
  ['an icon of ', ''],
  ['an illustration of ', ''],
  ['', ' emoji'],
  ['', ' icon'],
  ['a small picture of ', ''],
  ['emoji: ', ''],
];

/**
 * One training caption, in lower case, without the label's line breaks or doubled spaces.
 *
 * @param random decides everything; the same state gives the same caption.
 * @throws MomeError `MOME_INVALID_ARGUMENT` for weights that are negative or all zero, or `mostTags` below 1.
 * @example
 * sampleCaption({ label: 'grinning cat', tags: ['animal', 'smile'] }, createRandom(1)); // such as "grinning cat, smile"
 */
export function sampleCaption(entry: Labelled, random: Random, options: CaptionOptions = captionDefaults): string {
  const { label, labelAndTags, tags, template, mostTags } = options;
  const total = label + labelAndTags + tags + template;
  check(
    Math.min(label, labelAndTags, tags, template) >= 0 && total > 0 && Number.isFinite(total) && mostTags >= 1,
    'MOME_INVALID_ARGUMENT',
    `sampleCaption: expected weights of 0 or more, one above 0, and mostTags of 1 or more, got ${JSON.stringify(options)}`,
  );
  const drawn = random.uniform(0, total);
  if (drawn < template) {
    const [before, after] = random.pick(templates);
    return tidy(`${before}${entry.label}${after}`);
  }
  if (drawn < template + labelAndTags && entry.tags.length > 0) {
    return tidy([entry.label, ...drawTags(entry, random, 1, mostTags)].join(', '));
  }
  if (drawn >= template + labelAndTags && drawn < template + labelAndTags + tags && entry.tags.length > 1) {
    return tidy(drawTags(entry, random, 2, mostTags).join(random.chance(0.5) ? ', ' : ' '));
  }
  return tidy(entry.label);
}

/** The one caption an entry is found by in evaluation: its label exactly. */
export function evaluationCaption(entry: Labelled): string {
  return entry.label;
}

/**
 * Labels that a lower-casing, accent-stripping tokeniser could not tell apart.
 *
 * @returns each such label with the indices that share it; empty where every entry can be asked for by name.
 */
export function duplicateLabels(
  entries: readonly Labelled[],
): { readonly label: string; readonly indices: number[] }[] {
  const indicesByLabel = new Map<string, number[]>();
  entries.forEach((entry, index) => {
    const key = tidy(entry.label).normalize('NFD').replace(/\p{M}/gu, '');
    const indices = indicesByLabel.get(key);
    if (indices) indices.push(index);
    else indicesByLabel.set(key, [index]);
  });
  return [...indicesByLabel]
    .filter(([, indices]) => indices.length > 1)
    .map(([label, indices]) => ({ label, indices }));
}

function drawTags(entry: Labelled, random: Random, fewest: number, most: number): string[] {
  const tags = random.shuffle([...entry.tags]);
  const bound = Math.min(tags.length, Math.max(fewest, Math.floor(most)));
  return tags.slice(0, fewest + random.integer(bound - fewest + 1));
}

function tidy(caption: string): string {
  return caption.replace(/\s+/g, ' ').trim().toLowerCase();
}
