/** The embeddings of OpenAI, with the pictures of infinity and Jina. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { imageTokensOf } from '../architecture/config.ts';
import { isDataUrl } from '../image/data-url.ts';
import { Pace } from '../runtime/pace.ts';
import { bodyOf } from './body.ts';
import { type Context, callOf, common, listSchema, pictureOf, pictureSchema, readSome, textSchema } from './call.ts';
import { HttpError } from './errors.ts';
import { requireItems } from './own-routes.ts';
import { rowsAsJson, shortened } from './rows.ts';

export function addOpenAiRoutes(app: FastifyInstance, context: Context): void {
  const { limits, engines } = context;
  const ids = z.array(z.int().min(0)).min(1).max(limits.textLength);
  const item = z.union([
    z.string().max(2 * limits.pictureBytes),
    z.object({ text: textSchema(limits) }),
    z.object({ image: pictureSchema }),
    z.object({ image_url: z.union([pictureSchema, z.object({ url: pictureSchema })]) }),
    z.object({ url: pictureSchema }),
    z.object({ bytes: pictureSchema }),
  ]);
  const embeddings = z.object({
    ...common,
    input: z.union([item, ids, listSchema(ids, limits), listSchema(item, limits)]),
    encoding_format: z.enum(['float', 'base64']).nullish(),
    embedding_type: z.union([z.enum(['float', 'base64']), z.array(z.enum(['float', 'base64'])).length(1)]).nullish(),
    dimensions: z.int().min(1).nullish(),
    modality: z
      .enum(['text', 'image'])
      .nullish()
      .describe("Infinity's: whether texts are pictures. Without it `data:image/` URLs are."),
    user: z.string().max(500).nullish(),
    task: z.string().max(100).nullish(),
  });

  app.post(
    '/v1/embeddings',
    { schema: { summary: "Embed texts and pictures: OpenAI's, infinity's and Jina's", body: embeddings } },
    async (request, reply) => {
      const body = await bodyOf(request, embeddings, limits);
      const { engine, options } = callOf(context, request, reply, body);
      const texts: string[] = [];
      const pictures: { readonly image: string; readonly param: string }[] = [];
      /** For each input whether it is a picture: its place is the next of its list. */
      const isImage: boolean[] = [];
      const inputs = inputsOf(body.input);
      requireItems(inputs.length, limits.items, 'inputs');
      const pace = new Pace();
      for (const [index, input] of inputs.entries()) {
        await pace.rest();
        const param = `input.${index}`;
        const { text, image } = contentOf(input, body.modality === 'image', (pieces) => engine.batcher.decode(pieces));
        isImage.push(image !== undefined);
        if (image !== undefined) pictures.push({ image, param });
        else if (text!.length <= limits.textLength && body.modality !== 'image') texts.push(text!);
        else
          throw new HttpError(
            422,
            'MOME_INVALID_ARGUMENT',
            `${param}: expected a text of at most ${limits.textLength} characters, got ${text!.length}`,
            param,
          );
      }
      const images = await readSome(pictures, ({ image, param }) => pictureOf(context, request, image, param));
      const given = Array.isArray(body.embedding_type) ? body.embedding_type[0] : body.embedding_type;
      const format = body.encoding_format ?? given ?? 'float';
      const [ofTexts, ofImages] = await Promise.all([
        texts.length === 0
          ? []
          : engine.batcher
              .embedTexts(texts, options)
              .then((rows) => rowsAsJson(shortened(rows, body.dimensions), format)),
        images.length === 0
          ? []
          : engine.batcher
              .embedImages(images, options)
              .then((rows) => rowsAsJson(shortened(rows, body.dimensions), format)),
      ]);
      const next = { text: 0, image: 0 };
      const data = isImage.map((shown, index) => {
        const row = shown ? ofImages[next.image++] : ofTexts[next.text++];
        return `{"object":"embedding","index":${index},"embedding":${row}}`;
      });
      let tokens = images.length * imageTokensOf(engine.vlmo.config);
      for (const text of texts) {
        tokens += engine.batcher.countTokens(text);
        await pace.rest();
      }
      const usage = JSON.stringify({ prompt_tokens: tokens, total_tokens: tokens });
      return reply
        .type('application/json')
        .send(
          `{"object":"list","model":${JSON.stringify(body.model ?? engine.name)},"data":[${data.join(',')}],"usage":${usage}}`,
        );
    },
  );

  const modelOf = (name: string) => {
    const { since } = engines.get(name);
    return { id: name, object: 'model', created: since, owned_by: 'mome' };
  };
  app.get('/v1/models', { schema: { summary: 'The models of this server' } }, async () => ({
    object: 'list',
    data: engines.all.map(({ name }) => modelOf(name)),
  }));
  const params = z.object({ model: z.string().max(200) });
  app.get('/v1/models/:model', { schema: { summary: 'One model of this server', params } }, async (request) => {
    const { model } = request.params as z.output<typeof params>;
    if (!engines.has(model))
      throw new HttpError(404, 'MODEL_NOT_FOUND', 'expected a model of this server, got another', 'model');
    return modelOf(model);
  });
}

type Input = string | readonly number[] | { readonly [key: string]: string | { readonly url: string } };

/** The inputs of a request, one by one. */
function inputsOf(input: Input | readonly Input[]): readonly Input[] {
  if (!Array.isArray(input)) return [input as Input];
  return typeof input[0] === 'number' ? [input as readonly number[]] : (input as readonly Input[]);
}

/** What an input is: nobody's text is taken for a picture unless it is a `data:image/` URL or the request says so. */
function contentOf(
  input: Input,
  areImages: boolean,
  decode: (ids: readonly number[]) => string,
): { readonly text?: string; readonly image?: string } {
  if (typeof input === 'string') {
    const start = input.slice(0, 64);
    return areImages || (isDataUrl(start) && /^\s*data:image\//i.test(start)) ? { image: input } : { text: input };
  }
  if (Array.isArray(input)) return { text: decode(input) };
  const fields = input as { readonly [key: string]: string | { readonly url: string } };
  if (typeof fields.text === 'string') return { text: fields.text };
  const given = fields.image ?? fields.image_url ?? fields.url ?? fields.bytes!;
  return { image: typeof given === 'string' ? given : given.url };
}
