/** What a model can do: which of its heads a file holds. */
import { tokenTypesOf, type VlmoConfig } from '../architecture/config.ts';
import { type HeadName, headNames } from '../model/functions.ts';

/** Calls that a model may lack a head for; `embed` stands for `embedTexts` and `embedImages`. */
export const abilities = headNames;
export type Ability = HeadName;

/** Parameters that each call reads beyond the encoder. */
const heads: Readonly<Record<Ability, RegExp>> = {
  embed: /^itc_(?:text|image)_proj\./,
  match: /^(?:pooler|itm_score)\./,
  answer: /^(?:pooler|vqa_classifier)\./,
  reason: /^(?:pooler|nlvr2_classifier)\./,
  fillMask: /^mlm_score\./,
};

/** The calls that a model has heads for. @param missing parameters of `config` that its file lacks */
export function abilitiesOf(config: VlmoConfig, missing: readonly string[]): ReadonlySet<Ability> {
  return new Set(
    abilities.filter(
      (ability) =>
        !missing.some((name) => heads[ability].test(name)) && (ability !== 'reason' || tokenTypesOf(config) === 3),
    ),
  );
}

/** Parameters without which nothing works; heads may be missing. */
const core = /^(?:text_embeddings|token_type_embeddings|transformer(?!\.mask_token$)|relative_position_bias_table)/;

/** Those of the missing parameters that every call needs. */
export const missingOfEncoder = (config: VlmoConfig, missing: readonly string[]): string[] =>
  missing.filter(
    (name) => core.test(name) && !(name.includes('position_embeddings') && config.positions === 'relative'),
  );
