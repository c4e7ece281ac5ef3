import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convertCheckpoint } from '../../src/checkpoint/index.ts';
import { fusedScore, matchLogOdds } from '../../src/inference/fused-score.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { evaluationCaption } from '../../src/train/data/captions.ts';
import { flattenOnWhite, loadEmojiPictures } from '../../src/train/data/emoji.ts';
import { rankAll, recall } from '../../src/train/retrieval.ts';
import { expectCode, temporaryFolder, testImage, tinyModel } from '../helpers.ts';

const images = Array.from({ length: 7 }, (_, i) => testImage(i + 1, 30 + i));
const texts = ['a red square', 'blue', 'green circles', 'a picture of a circle', 'on white'];

let folder = '';
let model: Vlmo;
beforeAll(async () => {
  folder = await tinyModel();
  model = await Vlmo.load(folder);
});
afterAll(async () => model.dispose());

/** A copy of the tiny model whose `config.json` says more. */
async function modelWith(more: object): Promise<string> {
  const copy = await temporaryFolder();
  await cp(folder, copy, { recursive: true });
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
  await writeFile(join(copy, 'config.json'), JSON.stringify({ ...config, ...more }));
  return copy;
}

/** What both encoders say of pairs (query, candidate), by the calls that others use. */
async function judged(text: string) {
  const query = (await model.embedTexts([text])).embeddings;
  const { embeddings, width } = await model.embedImages(images);
  const match = await model.match(images.map((image) => ({ image, text })));
  return images.map((_, index) => {
    let similarity = 0;
    for (let i = 0; i < width; i++) similarity += query[i]! * embeddings[index * width + i]!;
    return { index, similarity, match: match[index]! };
  });
}

describe('rerank', () => {
  it('orders by what both encoders say, and tells what each says', async () => {
    const expected = (await judged('a red square'))
      .map((each) => ({ ...each, score: fusedScore(each, model) }))
      .sort((a, b) => b.score - a.score);
    const ranked = await model.rerank({ text: 'a red square' }, images);
    expect(ranked.map(({ index }) => index)).toEqual(expected.map(({ index }) => index));
    for (const [place, { similarity, match, score }] of ranked.entries()) {
      expect(match).toBe(expected[place]!.match);
      expect(similarity).toBeCloseTo(expected[place]!.similarity, 6);
      expect(score).toBeCloseTo(expected[place]!.score, 4);
    }
  });

  it('gives the same where the cosines come from elsewhere, also as float32', async () => {
    const ranked = await model.rerank({ text: 'blue' }, images);
    const cosines = new Map(ranked.map(({ index, similarity }) => [index, similarity]));
    const similarities = images.map((_, index) => cosines.get(index)!);
    expect(await model.rerank({ text: 'blue' }, images, { similarities })).toEqual(ranked);
    const rounded = await model.rerank({ text: 'blue' }, images, { similarities: Float32Array.from(similarities) });
    expect(rounded.map(({ index }) => index)).toEqual(ranked.map(({ index }) => index));
    const against = await model.rerank({ text: 'blue' }, images, { similarities: [0, 0, 0, 1, 0, 0, 0] });
    expect(against[0]!.index).toBe(3);
  });

  it('ranks texts for a picture as it ranks pictures for a text', async () => {
    const ranked = await model.rerank({ image: images[2]! }, texts);
    for (const { index, match, similarity, score } of ranked) {
      const [other] = await model.rerank({ text: texts[index]! }, [images[2]!]);
      expect(other).toEqual({
        index: 0,
        match,
        similarity: expect.closeTo(similarity, 6),
        score: expect.closeTo(score, 4),
      });
    }
    expect(ranked.map(({ score }) => score)).toEqual(ranked.map(({ score }) => score).sort((a, b) => b - a));
  });

  it("offers the original's rule", async () => {
    const ranked = await model.rerank({ text: 'blue' }, images, { rule: 'original' });
    const fused = await model.rerank({ text: 'blue' }, images);
    const by = new Map(fused.map((each) => [each.index, each]));
    for (const { index, score, similarity, match } of ranked) {
      expect({ similarity, match }).toEqual({ similarity: by.get(index)!.similarity, match: by.get(index)!.match });
      // The second logit alone: near the log-odds, and not the same.
      expect(score - similarity).not.toBeCloseTo(matchLogOdds(match), 3);
    }
    const scores = ranked.map(({ score }) => score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
  });

  it('orders as before whatever calibration the model has; match and the score of others follow it', async () => {
    const calibrated = await Vlmo.load(await modelWith({ matchCalibration: { slope: 3, offset: 30 } }));
    const ranked = await model.rerank({ text: 'blue' }, images);
    const again = await calibrated.rerank({ text: 'blue' }, images);
    expect(again.map(({ match, ...each }) => each)).toEqual(ranked.map(({ match, ...each }) => each));
    expect(calibrated.fingerprint).toBe(model.fingerprint); // embeddings are the same: an index of either serves both
    await calibrated.dispose();
    const milder = await Vlmo.load(
      await modelWith({ fusionWeight: 0.5, matchCalibration: { slope: 0.7, offset: -2 } }),
    );
    expect(milder.matchCalibration).toEqual({ slope: 0.7, offset: -2 });
    for (const { match, similarity, score } of await milder.rerank({ text: 'blue' }, images)) {
      expect(fusedScore({ match, similarity }, milder)).toBeCloseTo(score, 4);
    }
    const pairs = images.map((image) => ({ image, text: 'blue' }));
    const plain = await model.match(pairs);
    for (const [i, match] of (await milder.match(pairs)).entries())
      expect(match).toBeCloseTo(1 / (1 + Math.exp(2 - 0.7 * matchLogOdds(plain[i]!))), 6);
    await milder.dispose();
  });

  it.each([
    ['a slope of 0', { slope: 0, offset: 0 }],
    ['a slope below 0', { slope: -1, offset: 0 }],
    ['no offset', { slope: 1 }],
    ['a text', 'yes'],
    ['more', { slope: 1, offset: 0, power: 2 }],
  ])('refuses a calibration with %s', async (_, matchCalibration) => {
    const copy = await modelWith({ matchCalibration });
    const { message } = await expectCode(() => Vlmo.load(copy), 'MOME_INVALID_CONFIG');
    expect(message).toContain('matchCalibration');
  });

  it('a conversion keeps what the source says', async () => {
    const target = await temporaryFolder();
    const matchCalibration = { slope: 0.7, offset: -2 };
    await convertCheckpoint(await modelWith({ fusionWeight: 0.3, matchCalibration }), target);
    expect(JSON.parse(await readFile(join(target, 'config.json'), 'utf8'))).toMatchObject({
      fusionWeight: 0.3,
      matchCalibration,
    });
  });

  it('needs the heads: without the contrastive one, similarities; without the matching one, nothing helps', async () => {
    const without = async (heads: RegExp) => {
      const target = await temporaryFolder();
      await convertCheckpoint(folder, target, { omit: (name) => heads.test(name) });
      await cp(join(folder, 'vocab.txt'), join(target, 'vocab.txt'));
      return Vlmo.load(target);
    };
    const similarities = images.map((_, i) => i / 10);
    const matching = await without(/^(?:itc_|logit_scale)/);
    await expectCode(() => matching.rerank({ text: 'blue' }, images), 'MOME_UNSUPPORTED');
    const ranked = await matching.rerank({ text: 'blue' }, images, { similarities });
    expect(ranked).toHaveLength(images.length);
    await matching.dispose();
    const dual = await without(/^(?:itm_score|pooler)/);
    await expectCode(() => dual.rerank({ text: 'blue' }, images), 'MOME_UNSUPPORTED');
    await expectCode(() => dual.rerank({ text: 'blue' }, images, { similarities }), 'MOME_UNSUPPORTED');
    await dual.dispose();
  });
});

describe('on drawings of a style the model never saw', () => {
  it('re-ranking the first ten finds no fewer right partners than the dual encoder', { timeout: 600_000 }, async () => {
    await using shipped = await Vlmo.load();
    const size = shipped.config.imageSize;
    const { drawings, pixels } = await loadEmojiPictures({ style: 'noto', size });
    const rgb = flattenOnWhite(pixels);
    const stride = 3 * size * size;
    const pictures = drawings.map((_, i) => ({
      data: rgb.subarray(i * stride, (i + 1) * stride),
      width: size,
      height: size,
      channels: 3 as const,
    }));
    const captions = drawings.map(evaluationCaption);
    const shown = await shipped.embedImages(pictures);
    const said = await shipped.embedTexts(captions);
    const queries = drawings.map((_, i) => i).filter((i) => i % 5 === 0);
    const rowsOf = ({ embeddings, width }: typeof shown) =>
      Float32Array.from(queries.flatMap((i) => [...embeddings.subarray(i * width, (i + 1) * width)]));
    for (const direction of ['text to image', 'image to text'] as const) {
      const isText = direction === 'text to image';
      const items = (isText ? shown : said).embeddings;
      const { rankings, scores } = await rankAll(rowsOf(isText ? said : shown), items, shown.width, 10);
      const reranked: Int32Array[] = [];
      for (const [place, query] of queries.entries()) {
        const options = { similarities: scores[place]! };
        const found = [...rankings[place]!];
        const ranked = isText
          ? await shipped.rerank(
              { text: captions[query]! },
              found.map((i) => pictures[i]!),
              options,
            )
          : await shipped.rerank(
              { image: pictures[query]! },
              found.map((i) => captions[i]!),
              options,
            );
        reranked.push(Int32Array.from(ranked, ({ index }) => found[index]!));
      }
      const isPartner = (place: number, candidate: number) => queries[place] === candidate;
      const [dual, both] = [recall(rankings, isPartner), recall(reranked, isPartner)];
      for (const at of ['r1', 'r5', 'r10'] as const)
        expect(both[at], `${direction} ${at}`).toBeGreaterThanOrEqual(dual[at]);
      expect(both.r1).toBeGreaterThan(dual.r1);
    }
  });
});
