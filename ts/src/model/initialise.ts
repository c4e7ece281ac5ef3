/**
 * Starting values of a model that is trained from nothing.
 */
import type { VlmoConfig } from '../architecture/config.ts';
import { parameterShapes } from '../architecture/parameters.ts';
import { checkKind, kinds, oneOf, withMethods } from '../runtime/arguments.ts';
import { inPieces, Pace } from '../runtime/pace.ts';

/** Standard deviation of the truncated normal: 0.02 at width 768, as in BERT and BEiT; products keep that scale at other widths. */
const deviationOf = ({ width }: VlmoConfig): number => 0.02 * Math.sqrt(768 / width);

/** A source of random numbers. */
export interface NumberSource {
  normal(mean: number, deviation: number): number;
  uniform(low: number, high: number): number;
}

/** Where starting values come from: `mome` scales them with the width, `original` draws them as the original code does. */
export type InitialScheme = 'mome' | 'original';

/**
 * Starting values of all parameters.
 *
 * `mome`: truncated normal weights (0.02 at width 768, cut at two deviations), biases and the relative table 0, norms 1, layer scale at
 * its configured value; projections that end a residual branch are divided by `sqrt(2 (layer + 1))`; logit scales start at ln(1 / 0.07).
 *
 * `original`: the same biases, norms and scales. All weights are normal with a deviation of 0.02 at any width and depth, but for the patch
 * projection, which is uniform in +-1 / sqrt(3 patchSize^2), bias included.
 *
 * @see BEiT (arXiv 2106.08254), section 3; CLIP (arXiv 2103.00020) for the logit scale
 */
export async function initialParameters(
  config: VlmoConfig,
  random: NumberSource,
  scheme: InitialScheme = 'mome',
): Promise<Map<string, Float32Array>> {
  checkKind('initialParameters', 'config', config, kinds.object);
  checkKind('initialParameters', 'random', random, withMethods('a generator of createRandom', 'normal', 'uniform'));
  checkKind('initialParameters', 'scheme', scheme, oneOf(['mome', 'original']));
  const parameters = new Map<string, Float32Array>();
  const pace = new Pace();
  for (const [name, shape] of parameterShapes(config)) {
    const count = shape.reduce((product, dim) => product * dim, 1);
    parameters.set(name, await initialValues(name, count, shape.length, config, random, scheme));
    await pace.rest();
  }
  return parameters;
}

async function initialValues(
  name: string,
  count: number,
  rank: number,
  config: VlmoConfig,
  random: NumberSource,
  scheme: InitialScheme,
): Promise<Float32Array> {
  const values = new Float32Array(count);
  const fill = async (draw: () => number) => {
    await inPieces(count, (begin, end) => {
      for (let i = begin; i < end; i++) values[i] = draw();
    });
    return values;
  };
  if (scheme === 'original' && name.startsWith('transformer.patch_embed.proj.')) {
    const bound = 1 / Math.sqrt(3 * config.patchSize ** 2);
    return fill(() => random.uniform(-bound, bound));
  }
  if (name.startsWith('logit_')) return values.fill(Math.log(1 / 0.07));
  if (/gamma_[12]$/.test(name)) return values.fill(config.layerScale ?? 1);
  if (name === 'relative_position_bias_table' || name.endsWith('bias')) return values;
  if (rank === 1) return values.fill(1);
  // The original cuts at two, a hundred deviations.
  if (scheme === 'original') return fill(() => random.normal(0, 0.02));
  const branchEnd = /blocks\.(\d+)\.(?:attn\.proj|mlp_\w+\.fc2)\.weight$/.exec(name);
  const scale = deviationOf(config) / (branchEnd ? Math.sqrt(2 * (Number(branchEnd[1]) + 1)) : 1);
  await fill(() => truncatedNormal(random) * scale);
  // The padding row stays zero: it is never read and never receives a gradient.
  if (name === 'text_embeddings.word_embeddings.weight') values.fill(0, 0, config.width);
  return values;
}

function truncatedNormal(random: NumberSource): number {
  for (;;) {
    const value = random.normal(0, 1);
    if (Math.abs(value) <= 2) return value;
  }
}
