/** Requests of the right shape with hostile values: an answer with a code to each, none above 499 but 503 and 504, and short turns. */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Vlmo } from '../../src/inference/index.ts';
import type { MomeServer } from '../../src/serve/index.ts';
import { loopGap } from '../loop-gap.ts';
import { dataUrl, loadTiny, png, started } from './helpers.ts';

let model: Vlmo;
let server: MomeServer;
let pictures: readonly string[] = [];
beforeAll(async () => {
  model = await loadTiny();
  ({ server } = await started(model, { limits: { timeout: 20_000 } }));
  const cat = await png(1);
  const good = dataUrl(cat);
  pictures = [
    good,
    cat.toString('base64'),
    good.slice(0, good.length / 2),
    dataUrl(Buffer.from('GIF89a')),
    'data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
  ];
}, 60_000);

const hostileText = fc.oneof(
  { weight: 3, arbitrary: fc.constant('a [MASK] cat') },
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    '',
    '\0',
    '\0file 0',
    '\ud800',
    '[MASK]'.repeat(60),
    'a'.repeat(40_000),
    '\u202e\u0000\uffff',
    '😀'.repeat(500),
    ' '.repeat(5000),
    '__proto__',
  ),
);
const hostilePicture = fc.oneof(
  fc.integer({ min: 0, max: 4 }).map((i) => `picture ${i}`),
  fc.constantFrom(
    'data:',
    'data:,',
    'data:;base64,',
    'data:image/png;base64,====',
    'data:image/png;base64,A',
    'data:image/png;base64,%',
    'data:image/png,%FF%D8%FF',
    'http://127.0.0.1/',
    'file:///etc/passwd',
    '/etc/passwd',
    '\0file 0',
    'A'.repeat(1001),
    `data:${'a'.repeat(5000)},`,
  ),
);
const number = fc.oneof(
  fc.integer(),
  fc.double(),
  fc.constantFrom(0, -1, 1e308, 2 ** 53, 1.5, Number.NaN, 1000, 1001, '5', null, true),
);
const listOf = <T>(item: fc.Arbitrary<T>) => fc.oneof(item, fc.array(item, { maxLength: 3 }));
const model_ = fc.option(fc.oneof(hostileText, fc.constant('mome')), { nil: undefined });
const priority = fc.constantFrom(undefined, undefined, undefined, 'bulk', 'interactive', 'high', 5, null);
const common = { model: model_, priority };
const document = fc.oneof(
  hostileText,
  fc.record({ text: hostileText }),
  fc.record({ image: hostilePicture }),
  fc.record({ image_url: fc.oneof(hostilePicture, fc.record({ url: hostilePicture })) }),
  fc.record({ text: hostileText, image: hostilePicture }),
);
const ids = fc.array(fc.oneof(fc.integer({ min: -2, max: 99_999 }), number), { maxLength: 6 });
const tensor = fc.record(
  {
    name: fc.constantFrom('text', 'image', 'other', ''),
    shape: fc.array(fc.constantFrom(0, 1, 2, -1, 2 ** 53, 1.5, 1e308), { maxLength: 3 }),
    datatype: fc.constantFrom('BYTES', 'FP32', '', 'bytes'),
    parameters: fc.record(
      { binary_data_size: fc.constantFrom(0, 4, 8, -1, 1e9, 1.5, 'a', true) },
      { requiredKeys: [] },
    ),
    data: fc.array(fc.oneof(hostileText, hostilePicture, number, fc.array(hostileText, { maxLength: 2 })), {
      maxLength: 3,
    }),
  },
  { requiredKeys: ['name', 'shape', 'datatype'] },
);
const optional: { requiredKeys: [] } = { requiredKeys: [] };

/** A body for each route. */
const bodies: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  '/v1/embed': fc.record(
    {
      ...common,
      texts: listOf(hostileText),
      images: listOf(hostilePicture),
      encoding_format: fc.constantFrom('float', 'base64', 5),
    },
    optional,
  ),
  '/v1/match': fc.record(
    {
      ...common,
      pairs: fc.array(fc.record({ image: hostilePicture, text: hostileText }), { maxLength: 3 }),
      images: listOf(hostilePicture),
      texts: listOf(hostileText),
    },
    optional,
  ),
  '/v1/answer': fc.record({ ...common, image: hostilePicture, question: hostileText, k: number }, optional),
  '/v1/reason': fc.record({ ...common, images: listOf(hostilePicture), statement: hostileText }, optional),
  '/v1/fill-mask': fc.record({ ...common, image: hostilePicture, text: hostileText, k: number }, optional),
  '/v1/rerank': fc.record(
    {
      ...common,
      query: document,
      documents: listOf(document),
      top_n: number,
      return_documents: fc.boolean(),
      raw_scores: fc.boolean(),
    },
    optional,
  ),
  '/rerank': fc.record(
    { query: document, texts: listOf(document), return_text: fc.boolean(), truncate: number },
    optional,
  ),
  '/v2/rerank': fc.record(
    { model: model_, query: document, documents: listOf(document), top_n: number, priority: number },
    optional,
  ),
  '/embed': fc.record(
    { inputs: fc.oneof(listOf(hostileText), ids, fc.array(ids, { maxLength: 3 })), dimensions: number },
    optional,
  ),
  '/v1/embeddings': fc.record(
    {
      ...common,
      input: fc.oneof(listOf(document), ids, fc.array(ids, { maxLength: 3 }), listOf(hostilePicture)),
      dimensions: number,
      modality: fc.constantFrom('text', 'image', null, 'audio'),
      encoding_format: fc.constantFrom('float', 'base64', null),
    },
    optional,
  ),
  '/v2/models/mome/infer': fc.record(
    {
      id: hostileText,
      parameters: fc.record({ binary_data_output: fc.boolean(), priority: number, timeout: number }, optional),
      inputs: fc.array(tensor, { maxLength: 3 }),
      outputs: fc.array(fc.record({ name: fc.constantFrom('match', 'text_embedding', 'image_embedding', 'x') }), {
        maxLength: 3,
      }),
    },
    optional,
  ),
};
const route = fc.constantFrom(...Object.keys(bodies));

/** Sends a request and checks what every answer must be. */
async function sent(url: string, payload: string | Buffer, headers: Record<string, string>): Promise<number> {
  const { statusCode, body } = await server.inject({ method: 'POST', url, payload, headers });
  const shown = `${url} ${statusCode} ${body.slice(0, 200)} to ${String(payload).slice(0, 300)}`;
  expect(statusCode < 500 || statusCode === 503 || statusCode === 504, shown).toBe(true);
  if (statusCode === 200) return statusCode;
  const { error, code = error?.code } = JSON.parse(body);
  expect(code, shown).toMatch(/^[A-Z][A-Z_\d]+$/);
  return statusCode;
}

/** Runs a property, and expects that no turn of the loop was long: other load can only lengthen one, so the best of three runs counts. */
async function expectHolds(property: () => Promise<void>, most = 50): Promise<void> {
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 3 && best >= most; run++) {
    const { held, error } = await loopGap(property);
    if (error !== undefined) throw error;
    best = Math.min(best, held);
  }
  expect(best, 'milliseconds of the longest turn').toBeLessThan(most);
}

describe('bodies of the right shape with hostile values', () => {
  it('get an answer with a code on every route', async () => {
    const statuses = new Map<number, number>();
    const each = route.chain((url) => bodies[url]!.map((body) => ({ url, body })));
    await expectHolds(() =>
      fc.assert(
        fc.asyncProperty(each, async ({ url, body }) => {
          const text = JSON.stringify(body).replace(/"picture (\d)"/g, (_, i) => JSON.stringify(pictures[Number(i)]));
          const status = await sent(url, text, { 'content-type': 'application/json' });
          statuses.set(status, (statuses.get(status) ?? 0) + 1);
        }),
        {
          numRuns: 150,
          examples: [
            [{ url: '/v1/embed', body: { texts: 'a' } }],
            [{ url: '/v1/embed', body: { texts: ['a', ''], priority: 'bulk', encoding_format: 'base64' } }],
          ],
        },
      ),
    );
    // The right ones get through, or the others would be refused for reasons of no interest.
    expect(statuses.get(200) ?? 0).toBeGreaterThan(1);
  });

  it('as forms, whole and broken, get an answer with a code', async () => {
    const forms = [
      '/v1/embed',
      '/v1/match',
      '/v1/answer',
      '/v1/reason',
      '/v1/fill-mask',
      '/v1/rerank',
      '/rerank',
      '/v1/embeddings',
    ];
    const part = fc.record({
      name: fc.constantFrom(
        'image',
        'text',
        'query',
        'documents',
        'k',
        'images[]',
        '__proto__',
        '',
        'a"b',
        'x'.repeat(200),
      ),
      filename: fc.constantFrom(undefined, 'a.png', '', '../../etc/passwd', 'a"\r\nx: y'),
      type: fc.constantFrom(undefined, 'image/png', 'text/plain', 'nonsense', 'multipart/mixed; boundary=x'),
      value: fc.oneof(hostileText, hostilePicture, fc.constant('picture')),
      end: fc.constantFrom('\r\n', '\n', ''),
    });
    const whole = Buffer.from(pictures[1]!, 'base64');
    const form = fc.record({
      url: fc.constantFrom(...forms),
      parts: fc.array(part, { maxLength: 4 }),
      last: fc.constantFrom('--x--\r\n', '--x--', '--x', ''),
      cut: fc.option(fc.nat(400), { nil: undefined }),
    });
    await expectHolds(() =>
      fc.assert(
        fc.asyncProperty(form, async ({ url, parts, last, cut }) => {
          const pieces = parts.flatMap(({ name, filename, type, value, end }) => [
            Buffer.from(
              `--x\r\ncontent-disposition: form-data; name="${name}"${filename === undefined ? '' : `; filename="${filename}"`}\r\n${type === undefined ? '' : `content-type: ${type}\r\n`}\r\n`,
            ),
            value === 'picture' ? whole : Buffer.from(value),
            Buffer.from(end),
          ]);
          const body = Buffer.concat([...pieces, Buffer.from(last)]).subarray(0, cut);
          await sent(url, body, { 'content-type': 'multipart/form-data; boundary=x' });
        }),
        { numRuns: 150 },
      ),
    );
  });

  it('as tensors whose lengths lie get an answer with a code', async () => {
    const element = fc.record({
      length: fc.constantFrom(0, 1, 5, 2 ** 31, 2 ** 32 - 1),
      bytes: fc.uint8Array({ maxLength: 9 }),
    });
    const request = fc.record({
      head: fc.record({
        inputs: fc.array(tensor, { minLength: 1, maxLength: 2 }),
        parameters: fc.record({ binary_data_output: fc.boolean() }, optional),
      }),
      elements: fc.array(element, { maxLength: 4 }),
      lie: fc.constantFrom(0, 1, -1, 1e9),
    });
    await expectHolds(() =>
      fc.assert(
        fc.asyncProperty(request, async ({ head, elements, lie }) => {
          const json = Buffer.from(JSON.stringify(head));
          const binary = elements.flatMap(({ length, bytes }) => [
            Buffer.from(Uint32Array.of(length).buffer),
            Buffer.from(bytes),
          ]);
          await sent('/v2/models/mome/infer', Buffer.concat([json, ...binary]), {
            'content-type': 'application/octet-stream',
            'inference-header-content-length': String(json.length + lie),
          });
        }),
        { numRuns: 150 },
      ),
    );
  });
});
