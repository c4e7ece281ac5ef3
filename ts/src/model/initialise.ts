/**
 * Starting values of a model that is trained from nothing.
 */
import type { VlmoConfig } from '../architecture/config.ts';
import { parameterShapes } from '../architecture/parameters.ts';
import { inPieces, Pace } from '../runtime/pace.ts';

/** Standard deviation of the truncated normal: 0.02 at width 768, as in BERT and BEiT; products keep that scale at other widths. */
const deviationOf = ({ width }: VlmoConfig): number => 0.02 * Math.sqrt(768 / width);

/** A source of normal numbers. */
export interface NormalSource {
  normal(mean: number, deviation: number): number;
}

/**
 * Truncated normal weights (0.02 at width 768, cut at two deviations), biases and the relative table 0, norms 1, layer scale at its configured
 * value; projections that end a residual branch are divided by `sqrt(2 (layer + 1))`; logit scales start at ln(1 / 0.07).
 *
 * @see BEiT (arXiv 2106.08254), section 3; CLIP (arXiv 2103.00020) for the logit scale
 */
export async function initialParameters(config: VlmoConfig, random: NormalSource): Promise<Map<string, Float32Array>> {
  const parameters = new Map<string, Float32Array>();
  const pace = new Pace();
  for (const [name, shape] of parameterShapes(config)) {
    const count = shape.reduce((product, dim) => product * dim, 1);
    parameters.set(name, await initialValues(name, count, shape.length, config, random));
    await pace.rest();
  }
  return parameters;
}

async function initialValues(
  name: string,
  count: number,
  rank: number,
  config: VlmoConfig,
  random: NormalSource,
): Promise<Float32Array> {
  const values = new Float32Array(count);
  if (name.startsWith('logit_')) return values.fill(Math.log(1 / 0.07));
  if (/gamma_[12]$/.test(name)) return values.fill(config.layerScale ?? 1);
  if (name === 'relative_position_bias_table' || name.endsWith('bias')) return values;
  if (rank === 1) return values.fill(1);
  const branchEnd = /blocks\.(\d+)\.(?:attn\.proj|mlp_\w+\.fc2)\.weight$/.exec(name);
  const scale = deviationOf(config) / (branchEnd ? Math.sqrt(2 * (Number(branchEnd[1]) + 1)) : 1);
  await inPieces(count, (begin, end) => {
    for (let i = begin; i < end; i++) values[i] = truncatedNormal(random) * scale;
  });
  // The padding row stays zero: it is never read and never receives a gradient.
  if (name === 'text_embeddings.word_embeddings.weight') values.fill(0, 0, config.width);
  return values;
}

function truncatedNormal(random: NormalSource): number {
  for (;;) {
    const value = random.normal(0, 1);
    if (Math.abs(value) <= 2) return value;
  }
}
