/**
 * One number to order candidates by, from both encoders.
 *
 * The matching head is trained on negatives drawn in proportion to exp(scale * cosine). At its best it therefore gives the log-odds of
 * a match over what the similarity already says, and the log-odds over an even draw are its logit plus scale * cosine.
 *
 * @param match probability of the matching head
 * @param cosine similarity of the embeddings
 * @param scale the contrastive loss's `exp(logit_scale)`
 * @param weight how much the head counts: 1 for one that is as sure as it is right. A young head is too sure of what it has not seen;
 *   a model's `config.json` may say less
 */
export function fusedScore(match: number, cosine: number, scale: number, weight = 1): number {
  const bounded = Math.min(1 - tiny, Math.max(tiny, match));
  return weight * Math.log(bounded / (1 - bounded)) + scale * cosine;
}

/** Keeps the logit finite; float32 probabilities are no finer. */
const tiny = 1e-7;
