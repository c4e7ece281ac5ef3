/** Clients that others made, unchanged, and requests as recorded from those that do not run here. */
import { CohereClientV2 } from 'cohere-ai';
import OpenAI from 'openai';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import { dataUrl, loadTiny, png, post, started } from './helpers.ts';

let model: Vlmo;
let url = '';
let cat: Buffer;
let dog: Buffer;
const apiKey = 'a key';
const headers = { authorization: `Bearer ${apiKey}` };
beforeAll(async () => {
  model = await loadTiny();
  ({ url } = await started({ tiny: model }, { apiKeys: [apiKey] }));
  cat = await png(1);
  dog = await png(2);
});

const rounded = (values: readonly number[]) => values.map(Math.fround);

describe('the OpenAI SDK', () => {
  const client = () => new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0 });

  it('gets embeddings, which it asks for as base64', async () => {
    const texts = ['a red circle', 'a cat'];
    const { data, model: name, usage } = await client().embeddings.create({ model: 'tiny', input: texts });
    const { embeddings, width } = await model.embedTexts(texts);
    expect(rounded(data[1]!.embedding)).toEqual([...embeddings.slice(width)]);
    expect(data.map(({ index }) => index)).toEqual([0, 1]);
    expect(name).toBe('tiny');
    expect(usage.total_tokens).toBeGreaterThan(4);
    const plain = await client().embeddings.create({ model: 'tiny', input: texts[0]!, encoding_format: 'float' });
    expect(rounded(plain.data[0]!.embedding)).toEqual([...embeddings.slice(0, width)]);
    const short = await client().embeddings.create({ model: 'tiny', input: texts[0]!, dimensions: 4 });
    expect(short.data[0]!.embedding.length).toBe(4);
    expect(Math.hypot(...short.data[0]!.embedding)).toBeCloseTo(1, 5);
  });

  it('gives word pieces, pictures as data URLs, and learns of models and errors', async () => {
    const input = dataUrl(cat);
    const { embeddings } = await model.embedImages([cat]);
    const { data } = await client().embeddings.create({ model: 'tiny', input });
    expect(rounded(data[0]!.embedding)).toEqual([...embeddings]);
    const tokens = await client().embeddings.create({ model: 'tiny', input: [[5, 6], [7]] });
    expect(tokens.data.length).toBe(2);
    expect((await client().models.list()).data.map(({ id }) => id)).toEqual(['tiny']);
    await expect(client().models.retrieve('other')).rejects.toThrow(OpenAI.NotFoundError);
    await expect(client().embeddings.create({ model: 'tiny', input: [] })).rejects.toThrow(
      OpenAI.UnprocessableEntityError,
    );
    const wrong = new OpenAI({ apiKey: 'other', baseURL: `${url}/v1`, maxRetries: 0 });
    await expect(wrong.models.list()).rejects.toThrow(OpenAI.AuthenticationError);
  });

  it('waits as long as a full queue says, and tries again', async () => {
    const small = await started(model, { limits: { queueItems: 4 } });
    const client = new OpenAI({ apiKey: 'none', baseURL: `${small.url}/v1`, maxRetries: 5 });
    const inputs = Array.from({ length: 12 }, (_, i) => [`a ${i}`, `b ${i}`, `c ${i}`]);
    const all = await Promise.all(inputs.map((input) => client.embeddings.create({ model: 'x', input })));
    expect(all.every(({ data }) => data.length === 3)).toBe(true);
  });
});

describe('the Cohere SDK', () => {
  it('orders pictures by a text, and texts by a text', async () => {
    const client = new CohereClientV2({ token: apiKey, environment: url });
    const { results } = await client.rerank({
      model: 'tiny',
      query: 'a cat',
      documents: [dataUrl(cat), dataUrl(dog)],
      topN: 1,
    });
    const [best] = await model.rerank({ text: 'a cat' }, [cat, dog]);
    expect(results).toEqual([{ index: best!.index, relevanceScore: 1 / (1 + Math.exp(-best!.score)) }]);
    const texts = await client.rerank({ model: 'tiny', query: 'a red circle', documents: ['two', 'a red circle'] });
    expect(texts.results.map(({ index }) => index)).toEqual([1, 0]);
    await expect(client.rerank({ model: 'tiny', query: 'a', documents: [] }, { maxRetries: 0 })).rejects.toMatchObject({
      statusCode: 422,
    });
  });
});

describe('recorded requests', () => {
  it('of infinity: pictures by modality', async () => {
    const body = {
      model: 'tiny',
      encoding_format: 'float',
      user: null,
      input: [dataUrl(cat), dataUrl(dog)],
      modality: 'image',
    };
    const { body: answer } = await post(`${url}/v1/embeddings`, body, headers);
    const { embeddings } = await model.embedImages([cat, dog]);
    expect(rounded(answer.data.flatMap((each: { embedding: number[] }) => each.embedding))).toEqual([...embeddings]);
    const refused = await post(`${url}/v1/embeddings`, { ...body, input: ['https://a.example/cat.png'] }, headers);
    expect([refused.status, refused.body.error.code]).toEqual([422, 'URL_REFUSED']);
    const ranked = await post(
      `${url}/rerank`,
      {
        model: 'tiny',
        query: 'a red circle',
        documents: ['two', 'a red circle'],
        return_documents: true,
        raw_scores: false,
      },
      headers,
    );
    expect(ranked.body).toMatchObject({
      object: 'rerank',
      results: [{ index: 1, document: { text: 'a red circle' } }, { index: 0 }],
    });
  });

  it('of Jina: a mixed list, one row for each', async () => {
    const input = [{ text: 'a cat' }, { image: cat.toString('base64') }, { text: 'a dog' }];
    const { body } = await post(
      `${url}/v1/embeddings`,
      { model: 'tiny', task: 'retrieval.query', embedding_type: 'float', input },
      headers,
    );
    const texts = (await model.embedTexts(['a cat', 'a dog'])).embeddings;
    const image = (await model.embedImages([cat])).embeddings;
    const { width } = model.config;
    expect(rounded(body.data[1].embedding)).toEqual([...image]);
    expect(rounded(body.data[2].embedding)).toEqual([...texts.slice(width)]);
    const ranked = await post(
      `${url}/v1/rerank`,
      {
        model: 'tiny',
        query: { image: dataUrl(cat) },
        documents: [{ text: 'two' }, { text: 'a red circle' }],
        top_n: 1,
      },
      headers,
    );
    expect(ranked.body.results.length).toBe(1);
    expect(Object.keys(ranked.body.usage)).toContain('total_tokens');
  });

  it('of TEI: bare lists, and errors as it words them', async () => {
    const { body } = await post(
      `${url}/embed`,
      { inputs: ['a cat', 'a dog'], normalize: true, truncate: false },
      headers,
    );
    expect(rounded(body.flat())).toEqual([...(await model.embedTexts(['a cat', 'a dog'])).embeddings]);
    const ranked = await post(
      `${url}/rerank`,
      { query: 'a red circle', texts: ['two', 'a red circle'], return_text: true },
      headers,
    );
    expect(ranked.body[0]).toMatchObject({ index: 1, text: 'a red circle' });
    expect(ranked.body.length).toBe(2);
    const refused = await post(`${url}/rerank`, { query: 'a', texts: [] }, headers);
    expect(refused.body).toMatchObject({ error_type: 'Validation', error: expect.any(String) });
  });
});

describe('the Open Inference Protocol', () => {
  const infer = () => `${url}/v2/models/tiny/infer`;
  const bytes = (...elements: Buffer[]) =>
    Buffer.concat(elements.flatMap((each) => [Buffer.from(Uint32Array.of(each.length).buffer), each]));

  it('describes models and takes JSON', async () => {
    const get = async (path: string) =>
      (await fetch(`${url}${path}`, { headers })).json() as Promise<Record<string, unknown>>;
    expect(await get('/v2')).toMatchObject({ name: 'mome', extensions: ['binary_tensor_data'] });
    expect(await get('/v2/models/tiny/ready')).toEqual({ name: 'tiny', ready: true });
    expect(await get('/v2/models/tiny')).toMatchObject({ platform: 'mome_vlmo' });
    const inputs = [{ name: 'text', shape: [2], datatype: 'BYTES', data: ['a cat', 'a dog'] }];
    const { body } = await post(infer(), { id: 'x1', inputs }, headers);
    expect(body).toMatchObject({
      model_name: 'tiny',
      id: 'x1',
      outputs: [{ name: 'text_embedding', datatype: 'FP32', shape: [2, model.config.width] }],
    });
    expect(rounded(body.outputs[0].data)).toEqual([...(await model.embedTexts(['a cat', 'a dog'])).embeddings]);
    expect((await post(`${url}/v2/models/other/infer`, { inputs }, headers)).status).toBe(404);
    const wrong = await post(infer(), { inputs: [{ ...inputs[0], shape: [3] }] }, headers);
    expect([wrong.status, typeof wrong.body.error]).toEqual([400, 'string']);
  });

  it('takes and gives binary tensors', async () => {
    const [text, image] = [bytes(Buffer.from('a cat'), Buffer.from('a dog')), bytes(cat, dog)];
    const json = Buffer.from(
      JSON.stringify({
        parameters: { binary_data_output: true },
        inputs: [
          { name: 'text', shape: [2], datatype: 'BYTES', parameters: { binary_data_size: text.length } },
          { name: 'image', shape: [2], datatype: 'BYTES', parameters: { binary_data_size: image.length } },
        ],
        outputs: [{ name: 'match' }, { name: 'image_embedding', parameters: { binary_data: false } }],
      }),
    );
    const send = (head: number, body: Buffer) =>
      fetch(infer(), {
        method: 'POST',
        headers: {
          ...headers,
          'content-type': 'application/octet-stream',
          'inference-header-content-length': `${head}`,
        },
        body: new Uint8Array(body),
      });
    const response = await send(json.length, Buffer.concat([json, text, image]));
    const all = Buffer.from(await response.arrayBuffer());
    const head = Number(response.headers.get('inference-header-content-length'));
    const { outputs } = JSON.parse(all.subarray(0, head).toString()) as {
      outputs: { parameters?: object; data?: number[] }[];
    };
    expect(outputs[0]!.parameters).toEqual({ binary_data_size: 8 });
    const direct = await model.match([
      { image: cat, text: 'a cat' },
      { image: dog, text: 'a dog' },
    ]);
    expect([...new Float32Array(new Uint8Array(all.subarray(head)).buffer)]).toEqual([...direct]);
    expect(rounded(outputs[1]!.data!)).toEqual([...(await model.embedImages([cat, dog])).embeddings]);
    // Lengths that lie, bytes that are missing or too many.
    for (const [length, body] of [
      [json.length + 1, Buffer.concat([json, text, image])],
      [json.length, json],
      [1e8, json],
      [json.length, Buffer.concat([json, text, image, cat])],
      [0, json],
    ] as const)
      expect((await send(length, body)).status).toBe(400);
  });
});
