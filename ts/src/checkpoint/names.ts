/**
 * Finds the model among the names of a checkpoint: what training code puts before them, and dictionaries around them.
 */
import { check } from '../runtime/errors.ts';

/** Parts that wrappers of modules put into names, wherever they stand. */
const technical = /(?:_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\./g;

/** Parameters of VLMo, of VLMo's transformer by itself, and of BEiT. */
const known =
  /^(?:text_embeddings\.|token_type_embeddings\.|relative_position_bias_table$|(?:transformer\.)?(?:cls_token$|mask_token$|pos_embed$|patch_embed\.|blocks\.\d+\.|norm\.|fc_norm\.)|pooler\.dense\.|itm_score\.|mlm_score\.|mim_score\.|itc_(?:vl_)?(?:text|image)_proj\.|logit_(?:vl_)?scale$|(?:vqa|nlvr2)_classifier\.)/;
/** One name of each part that a model may be saved without the others. */
const anchors = [
  'transformer.patch_embed.proj.weight',
  'patch_embed.proj.weight',
  'transformer.blocks.0.attn.qkv.weight',
  'blocks.0.attn.qkv.weight',
  'text_embeddings.word_embeddings.weight',
  'relative_position_bias_table',
];
/** Parameters of the transformer, which some files name without `transformer.`. */
const ofTransformer = /^(?:cls_token$|mask_token$|pos_embed$|patch_embed\.|blocks\.\d+\.|norm\.)/;
const experts = /^blocks\.\d+\.mlp_(?:imag|text|vl|shared)\./;
const expertsOfTransformer = /^transformer\.blocks\.\d+\.mlp_(?:imag|text|vl|shared)\./;

/** Prefixes that are tried. */
const maxPrefixes = 16;

/** Which names of a checkpoint are a model's, and how a model calls them. */
export interface FoundNames {
  /** What stood before the names and was taken off, such as `module.`; empty where nothing did. */
  readonly prefix: string;
  /** Name in the file -> name in the model. Names that are not of the model keep theirs; those it would have twice are left out. */
  readonly names: ReadonlyMap<string, string>;
  /** How many of them are names of a model. */
  readonly known: number;
}

/**
 * Finds what stands before a model's names. Where a copy of averaged weights (`ema`) stands beside the model, the model is taken.
 *
 * @throws MomeError `MOME_INVALID_FILE` naming the prefixes where there are several models
 */
export function findNames(all: Iterable<string>, where: string): FoundNames {
  const cleaned = new Map([...all].map((name): [string, string] => [name, name.replaceAll(technical, '')]));
  const names = [...cleaned.values()];
  const prefix = prefixOf(names, where);
  const own = names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  const bare = own.some((name) => experts.test(name)) && !own.some((name) => expertsOfTransformer.test(name));
  const inFile = prefixInFile(cleaned, prefix);
  const found = new Map<string, string>();
  const taken = new Set<string>();
  const take = (name: string, own: string) => {
    if (taken.has(own)) return;
    taken.add(own);
    found.set(name, own);
  };
  const rest: [string, string][] = [];
  for (const [name, clean] of cleaned) {
    const own = clean.slice(prefix.length);
    if (!name.startsWith(inFile) || !clean.startsWith(prefix)) rest.push([name, clean]);
    else take(name, bare && ofTransformer.test(own) ? `transformer.${own}` : own);
  }
  for (const [name, clean] of rest) take(name, clean.startsWith(prefix) ? clean.slice(prefix.length) : clean);
  return { prefix: inFile, names: found, known: own.filter((name) => known.test(name)).length };
}

function prefixOf(names: readonly string[], where: string): string {
  const candidates = new Set<string>();
  for (const name of names) {
    for (const anchor of anchors) {
      if (name === anchor) candidates.add('');
      else if (name.endsWith(`.${anchor}`)) candidates.add(name.slice(0, -anchor.length));
    }
    if (candidates.size > maxPrefixes) break;
  }
  const scored = [...candidates]
    .map((prefix) => ({ prefix, count: names.filter((name) => isKnown(name, prefix)).length }))
    .sort((a, b) => b.count - a.count || a.prefix.length - b.prefix.length);
  const best = scored[0];
  if (best === undefined) return '';
  // `a.` and `a.transformer.` name the same tensors.
  const others = scored.filter(({ prefix, count }) => count === best.count && !prefix.startsWith(best.prefix));
  const same = [best, ...others].map(({ prefix }) => prefix);
  const plain = same.filter((prefix) => !/ema|average/i.test(prefix));
  const choice = plain.length === 0 ? same : plain;
  check(
    choice.length === 1,
    'MOME_INVALID_FILE',
    `${where}: expected one model, got one under each of ${choice.map((prefix) => `"${prefix}"`).join(', ')}; save one of them alone`,
  );
  return beitBelow(names, choice[0]!);
}

const isKnown = (name: string, prefix: string) => name.startsWith(prefix) && known.test(name.slice(prefix.length));

/** The prefix of a BEiT, whose names a prefix of `transformer.` would turn into VLMo's. */
function beitBelow(names: readonly string[], prefix: string): string {
  const deeper = `${prefix}transformer.`;
  const isBeit =
    names.includes(`${deeper}blocks.0.mlp.fc1.weight`) &&
    !names.some((name) => name.startsWith(`${prefix}text_embeddings.`));
  return isBeit ? deeper : prefix;
}

/** The prefix with the technical parts that the first of its names has. */
function prefixInFile(cleaned: ReadonlyMap<string, string>, prefix: string): string {
  for (const [name, clean] of cleaned) {
    const rest = clean.slice(prefix.length);
    if (clean.startsWith(prefix) && known.test(rest) && name.endsWith(rest))
      return name.slice(0, name.length - rest.length);
  }
  return prefix;
}
