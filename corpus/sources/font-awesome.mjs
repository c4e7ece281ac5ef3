/** Search terms of Font Awesome, which are held out: what people type who look for one of its icons. */
import { join } from 'node:path';
import { readJson } from '../files.mjs';
import { plainName } from '../names.mjs';

/** Icon -> its label and search terms. */
export function fontAwesomeTerms(packages) {
  const families = readJson(join(packages, '@fortawesome', 'fontawesome-free', 'metadata', 'icon-families.json'));
  return new Map(
    Object.entries(families).map(([icon, { label, search }]) => [
      icon,
      {
        label: label.toLowerCase(),
        tags: [...new Set(search.terms.map((term) => plainName(String(term))).filter(Boolean))],
      },
    ]),
  );
}
