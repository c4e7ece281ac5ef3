/** Entries for frameworks where something is wrong: signals that fire, empty lists, models without the head, values of the wrong kind. */
import { join } from 'node:path';
import type { DocumentInterface } from '@langchain/core/documents';
import { ImageNode, TextNode } from '@llamaindex/core/schema';
import { createProviderRegistry, embed, embedMany, rerank } from 'ai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { convertCheckpoint } from '../../src/checkpoint/index.ts';
import { Vlmo } from '../../src/inference/index.ts';
import { createMome } from '../../src/integrations/ai-sdk.ts';
import type { Encoders } from '../../src/integrations/calls.ts';
import { MomeRerank as DocumentRerank, MomeEmbeddings } from '../../src/integrations/langchain.ts';
import { MomeEmbedding, MomeRerank as NodeRerank } from '../../src/integrations/llamaindex.ts';
import { MomeError } from '../../src/runtime/errors.ts';
import { temporaryFolder } from '../helpers.ts';

const cat = 'docs/pictures/cat-face.svg';
const pizza = 'docs/pictures/pizza.svg';
const gone = AbortSignal.abort(new Error('enough'));

let vlmo: Vlmo;
/** A model whose re-ranking lacks its head, as that of a file without the head rejects. */
let headless: Encoders;
beforeAll(async () => {
  vlmo = await Vlmo.load();
  const unsupported = async () => {
    throw new MomeError('MOME_UNSUPPORTED', 'rerank: expected a matching head, got a model without');
  };
  headless = {
    embedTexts: vlmo.embedTexts.bind(vlmo),
    embedImages: vlmo.embedImages.bind(vlmo),
    rerank: vi.fn(unsupported),
  };
});
afterAll(() => vlmo.dispose());

describe('AI SDK', () => {
  it('takes empty lists, and gives what the model gives', async () => {
    const mome = createProviderRegistry({ mome: createMome(vlmo) });
    const model = mome.embeddingModel('mome:image');
    expect((await embedMany({ model, values: [] })).embeddings).toEqual([]);
    const { embedding } = await embed({ model, value: cat });
    expect(embedding).toEqual([...(await vlmo.embedImages([cat])).embeddings]);
    const ofTexts = mome.rerankingModel('mome:text');
    const { ranking } = await rerank({ model: ofTexts, query: cat, documents: ['a pizza', 'a cat'] });
    expect(ranking.map(({ originalIndex }) => originalIndex)).toEqual([1, 0]);
    const [best] = await vlmo.rerank({ image: cat }, ['a pizza', 'a cat']);
    expect(ranking[0]!.score).toBe(best!.score);
  });

  it('ends with the reason of the signal, at once or during the call', async () => {
    const mome = createMome(vlmo);
    const model = mome.embeddingModel('image');
    await expect(model.doEmbed({ values: [cat], abortSignal: gone })).rejects.toThrow('enough');
    const values = Array.from({ length: 2000 }, () => `${cat}`);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    await expect(embedMany({ model, values, abortSignal: controller.signal })).rejects.toMatchObject({
      name: 'AbortError',
    });
    const documents = { type: 'text' as const, values: [cat] };
    const call = mome.rerankingModel('image').doRerank({ query: 'a cat', documents, abortSignal: gone });
    await expect(call).rejects.toThrow('enough');
  });

  it('takes given similarities, and refuses wrong ones', async () => {
    const model = createMome(vlmo).rerankingModel('image');
    const call = { model, query: 'a cat', documents: [{ image: cat }, { image: pizza }] };
    const given = await rerank({ ...call, providerOptions: { mome: { similarities: [-1, 1] } } });
    expect(given.ranking[0]!.originalIndex).toBe(1);
    await expect(rerank({ ...call, providerOptions: { mome: { similarities: [1] } } })).rejects.toMatchObject({
      code: 'MOME_INVALID_ARGUMENT',
    });
    await expect(rerank({ ...call, documents: [{ picture: cat }] })).rejects.toMatchObject({ index: 0 });
    for (const wrong of [null, 5]) {
      const documents = { type: 'object' as const, values: [{ image: cat }, wrong as never] };
      await expect(model.doRerank({ query: 'a cat', documents })).rejects.toMatchObject({
        code: 'MOME_INVALID_ARGUMENT',
        index: 1,
      });
    }
    await expect(rerank({ ...call, topN: 0 })).rejects.toThrow('topN');
  });

  it('says what a model lacks, and does not try again', async () => {
    const model = createMome(headless).rerankingModel('image');
    await expect(rerank({ model, query: 'a cat', documents: [cat] })).rejects.toMatchObject({
      code: 'MOME_UNSUPPORTED',
    });
    expect(headless.rerank).toHaveBeenCalledTimes(1);
    expect(() => createMome(vlmo).embeddingModel('other')).toThrow('other');
    expect(() => createMome(vlmo).languageModel('text')).toThrow('language model');
    expect(() => createMome({} as Encoders)).toThrow('a model or a batcher');
  });
});

describe('LangChain.js', () => {
  const document = (pageContent: string, metadata = {}): DocumentInterface => ({ pageContent, metadata });

  it('takes empty lists and both directions', async () => {
    const embeddings = new MomeEmbeddings({ vlmo, queries: 'images' });
    expect(await embeddings.embedDocuments([])).toEqual([]);
    expect(await embeddings.embedQuery(cat)).toEqual((await embeddings.embedImages([cat]))[0]);
    expect(await new DocumentRerank({ vlmo }).compressDocuments([], 'a cat')).toEqual([]);
    const texts = [document('a pizza'), document('a cat', { page: 2 })];
    const [best] = await new DocumentRerank({ vlmo, queries: 'images', topN: 1 }).compressDocuments(texts, cat);
    expect(best).toMatchObject({ pageContent: 'a cat', metadata: { page: 2, relevanceScore: expect.any(Number) } });
    expect(texts[1]!.metadata).toEqual({ page: 2 });
  });

  it('passes the signal on, and the errors', async () => {
    await expect(new MomeEmbeddings({ vlmo, signal: gone }).embedQuery('a cat')).rejects.toMatchObject({
      code: 'MOME_ABORTED',
    });
    const documents = [document('a cat', { image: cat })];
    const contentOf = ({ metadata }: DocumentInterface) => metadata.image as string;
    const aborted = new DocumentRerank({ vlmo, signal: gone, contentOf }).compressDocuments(documents, 'a cat');
    await expect(aborted).rejects.toMatchObject({ code: 'MOME_ABORTED' });
    expect(await new DocumentRerank({ vlmo, contentOf }).compressDocuments(documents, 'a cat')).toHaveLength(1);
    const lacking = new DocumentRerank({ vlmo: headless, contentOf }).compressDocuments(documents, 'a cat');
    await expect(lacking).rejects.toMatchObject({ code: 'MOME_UNSUPPORTED' });
    expect(() => new MomeEmbeddings({} as never)).toThrow('a model or a batcher');
  });
});

describe('LlamaIndex', () => {
  const nodes = [pizza, cat].map((path) => ({ node: new ImageNode({ id_: path, image: path }), score: 0.1 }));
  const texts = ['a pizza', 'a cat'].map((text) => ({ node: new TextNode({ text }) }));

  it('embeds nodes of both kinds, and re-ranks both ways', async () => {
    const embedding = new MomeEmbedding({ vlmo });
    const [text, picture] = await embedding([new TextNode({ text: 'a cat' }), new ImageNode({ id_: cat, image: cat })]);
    expect(text!.embedding).toEqual(await embedding.getTextEmbedding('a cat'));
    expect(picture!.embedding).toEqual(await embedding.getImageEmbedding(cat));
    expect(await embedding.getTextEmbeddingsBatch([])).toEqual([]);
    const reranker = new NodeRerank({ vlmo, topN: 1, similarities: 'scores' });
    expect((await reranker.postprocessNodes(nodes, 'a cat'))[0]!.node.id_).toBe(cat);
    const image_url = { url: new URL(`../../../${cat}`, import.meta.url).href };
    const [best] = await new NodeRerank({ vlmo }).postprocessNodes(texts, [{ type: 'image_url', image_url }]);
    expect(best!.node).toBe(texts[1]!.node);
  });

  it('refuses what it cannot judge, and passes the signal on', async () => {
    const reranker = new NodeRerank({ vlmo });
    expect(await reranker.postprocessNodes([], 'a cat')).toEqual([]);
    await expect(reranker.postprocessNodes(nodes)).rejects.toThrow('expected a text as query');
    await expect(reranker.postprocessNodes(texts, 'a cat')).rejects.toThrow('expected one picture as query');
    await expect(reranker.postprocessNodes([...nodes, ...texts], 'a cat')).rejects.toThrow('2 of 4');
    const scoreless = new NodeRerank({ vlmo, similarities: 'scores' });
    await expect(scoreless.postprocessNodes([{ node: nodes[0]!.node }], 'a cat')).rejects.toMatchObject({ index: 0 });
    const aborted = { code: 'MOME_ABORTED' };
    await expect(new NodeRerank({ vlmo, signal: gone }).postprocessNodes(nodes, 'a cat')).rejects.toMatchObject(
      aborted,
    );
    await expect(new MomeEmbedding({ vlmo, signal: gone }).getTextEmbedding('a cat')).rejects.toMatchObject(aborted);
    const lacking = new NodeRerank({ vlmo: headless }).postprocessNodes(nodes, 'a cat');
    await expect(lacking).rejects.toMatchObject({ code: 'MOME_UNSUPPORTED' });
  });
});

it('a file without the matching head embeds, and its re-ranking names the calls that it needs heads for', async () => {
  const folder = join(await temporaryFolder(), 'embeds');
  await convertCheckpoint('models/emoji-tiny', folder, { omit: (name) => name.startsWith('itm_score') });
  const lacking = await Vlmo.load(folder);
  const mome = createMome(lacking);
  expect((await embed({ model: mome.embeddingModel('text'), value: 'a cat' })).embedding).toHaveLength(192);
  const call = rerank({ model: mome.rerankingModel('image'), query: 'a cat', documents: [cat, pizza] });
  await expect(call).rejects.toMatchObject({
    code: 'MOME_UNSUPPORTED',
    message: expect.stringContaining('heads for "embed" and "match"'),
  });
  await lacking.dispose();
}, 60_000);
