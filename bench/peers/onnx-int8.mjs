/**
 * Quantised forms of an exported ONNX graph, for onnxruntime's own 8-bit products, as its Python tools make them:
 *
 * dynamic: every product with a weight becomes MatMulInteger, whose rows are quantised per run (DynamicQuantizeLinear).
 * QDQ:     pairs of QuantizeLinear and DequantizeLinear stand before the product, with ranges that were seen on sample inputs.
 *
 * Activations are unsigned bytes with one scale for a tensor, weights signed bytes with one scale for each output. onnxruntime makes its
 * own kernels of both when it opens them. What is no product with a weight (attention, norms, GELU, the patches' convolution, tables)
 * stays in float32.
 */
import { existsSync } from 'node:fs';
import { open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeModel, encodeModel } from '../../dist/graph.mjs';

export const quantisations = ['dynamic', 'QDQ'];

/** Numbers of ONNX. */
const elementTypes = { float: 1, uint8: 2, int8: 3 };
const attributeTypes = { int: 2 };
const externalLocation = 1;
const floatBytes = 4;
const mostUint8 = 255;

/** Sessions that only look at ranges must not change the graph they look at. */
const looking = { graphOptimizationLevel: 'disabled' };

/**
 * Writes the quantised forms of `<graph>.onnx` beside it, unless they are there.
 *
 * @param ort onnxruntime-node
 * @param {string} folder
 * @param {string} graph
 * @param {readonly Record<string, unknown>[]} samples inputs to take ranges from
 * @param {{ weightLimit: number }} options largest weight: 127, or 63 on processors whose products of bytes saturate
 * @returns {Promise<Record<string, string>>} file of each form
 */
export async function quantiseGraphs(ort, folder, graph, samples, { weightLimit }) {
  const files = Object.fromEntries(quantisations.map((form) => [form, `${graph}-${form}-${weightLimit}.onnx`]));
  if (Object.values(files).every((file) => existsSync(join(folder, file)))) return files;
  const model = decodeModel(await readFile(join(folder, `${graph}.onnx`)));
  const products = productsOf(model.graph);
  const weightsFile = `${graph}-int8-${weightLimit}.data`;
  const weights = await quantiseWeights(model.graph, products, folder, weightsFile, weightLimit);
  const ranges = await rangesOf(ort, model, products, samples, folder, `${graph}-ranges.onnx`);
  await writeFile(join(folder, files.dynamic), encodeModel(dynamicForm(model, weights)));
  await writeFile(join(folder, files.QDQ), encodeModel(staticForm(model, weights, ranges)));
  return files;
}

/** Products with a weight: MatMul nodes whose second operand lies in a file. */
export function productsOf({ node, initializer }) {
  const external = new Set(initializer.filter((each) => each.external_data?.length > 0).map(({ name }) => name));
  return node.filter(({ op_type, input }) => op_type === 'MatMul' && external.has(input[1]));
}

/**
 * The weight [depth, columns] as signed bytes, a scale for each column.
 *
 * @param {Float32Array} values
 * @param {number} columns
 * @param {number} limit largest magnitude
 */
export function quantiseColumns(values, columns, limit) {
  const scales = new Float32Array(columns);
  for (let i = 0; i < values.length; i++) scales[i % columns] = Math.max(scales[i % columns], Math.abs(values[i]));
  for (let c = 0; c < columns; c++) scales[c] = scales[c] > 0 ? scales[c] / limit : 1;
  const bytes = new Int8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const rounded = Math.round(values[i] / scales[i % columns]);
    bytes[i] = Math.min(limit, Math.max(-limit, rounded));
  }
  return { bytes, scales };
}

/** Scale and zero point of unsigned bytes that reach from `low` to `high` and hold zero exactly. */
export function unsignedRange(low, high) {
  const [from, to] = [Math.min(0, low), Math.max(0, high)];
  const scale = Math.fround((to - from) / mostUint8) || 1;
  return { scale, zero: Math.min(mostUint8, Math.max(0, Math.round(-from / scale))) };
}

/** Quantises the weights of products into a file. @returns initializers by the float weight's name: weight, scale, zero */
async function quantiseWeights({ initializer }, products, folder, file, limit) {
  const byName = new Map(initializer.map((each) => [each.name, each]));
  const names = [...new Set(products.map(({ input }) => input[1]))];
  const quantised = new Map();
  const out = await open(join(folder, file), 'w');
  const sources = new Map();
  try {
    let end = 0;
    for (const name of names) {
      const { dims, external_data } = byName.get(name);
      const place = Object.fromEntries(external_data.map(({ key, value }) => [key, value]));
      if (!sources.has(place.location)) sources.set(place.location, await open(join(folder, place.location)));
      const values = new Float32Array(Number(place.length) / floatBytes);
      await sources.get(place.location).read(Buffer.from(values.buffer), 0, values.byteLength, Number(place.offset));
      const { bytes, scales } = quantiseColumns(values, dims[1], limit);
      await out.write(bytes, 0, bytes.length, end);
      const where = { location: file, offset: String(end), length: String(bytes.length) };
      quantised.set(name, {
        weight: {
          name: `${name}.int8`,
          dims,
          data_type: elementTypes.int8,
          external_data: Object.entries(where).map(([key, value]) => ({ key, value })),
          data_location: externalLocation,
        },
        scale: constant(`${name}.scale`, 'float', [dims[1]], scales),
        zero: constant(`${name}.zero`, 'int8', [dims[1]], new Int8Array(dims[1])),
      });
      end += bytes.length;
    }
  } finally {
    await out.close();
    for (const source of sources.values()) await source.close();
  }
  return quantised;
}

/** Least and greatest value of each product's rows over the samples, by the tensor's name. */
async function rangesOf(ort, model, products, samples, folder, file) {
  const rows = [...new Set(products.map(({ input }) => input[0]))];
  const bounds = ['ReduceMin', 'ReduceMax'];
  const whole = [{ name: 'keepdims', type: attributeTypes.int, i: 0 }];
  const nodes = rows.flatMap((name) =>
    bounds.map((op) => ({
      name: `${name}.${op}`,
      op_type: op,
      input: [name],
      output: [`${name}.${op}`],
      attribute: whole,
    })),
  );
  const outputs = nodes.map(({ name }) => ({ name, type: { tensor_type: { elem_type: 1, shape: { dim: [] } } } }));
  const { graph } = model;
  const looked = {
    ...model,
    graph: { ...graph, node: [...graph.node, ...nodes], output: [...graph.output, ...outputs] },
  };
  const path = join(folder, file);
  await writeFile(path, encodeModel(looked));
  const session = await ort.InferenceSession.create(path, looking);
  const ranges = new Map();
  try {
    for (const sample of samples) {
      const results = await session.run(sample);
      for (const name of rows) {
        const [low, high] = bounds.map((op) => Number(results[`${name}.${op}`].data[0]));
        const [least, greatest] = ranges.get(name) ?? [low, high];
        ranges.set(name, [Math.min(least, low), Math.max(greatest, high)]);
      }
    }
  } finally {
    await session.release();
    await rm(path);
  }
  return ranges;
}

/** The model whose products quantise their rows in every run. */
function dynamicForm(model, weights) {
  return rewritten(model, weights, (product, weight, once) => {
    const [x] = product.input;
    const rows = { bytes: `${x}.uint8`, scale: `${x}.scale`, zero: `${x}.zero` };
    const { name, output } = product;
    return [
      ...once(x, () => [node('DynamicQuantizeLinear', `${x}.quantise`, [x], [rows.bytes, rows.scale, rows.zero])]),
      node('MatMulInteger', name, [rows.bytes, weight.weight.name, rows.zero, weight.zero.name], [`${name}.int32`]),
      node('Cast', `${name}.cast`, [`${name}.int32`], [`${name}.float`], { to: elementTypes.float }),
      node('Mul', `${name}.scales`, [rows.scale, weight.scale.name], [`${name}.scale`]),
      node('Mul', `${name}.scaled`, [`${name}.float`, `${name}.scale`], output),
    ];
  });
}

/** The model whose rows are quantised by the ranges that were seen. */
function staticForm(model, weights, ranges) {
  const constants = [];
  const form = rewritten(model, weights, (product, weight, once) => {
    const [x, w] = product.input;
    const parameters = [`${x}.scale`, `${x}.zero`];
    return [
      ...once(x, () => {
        const { scale, zero } = unsignedRange(...ranges.get(x));
        constants.push(constant(parameters[0], 'float', [], Float32Array.of(scale)));
        constants.push(constant(parameters[1], 'uint8', [], Uint8Array.of(zero)));
        return [
          node('QuantizeLinear', `${x}.quantise`, [x, ...parameters], [`${x}.uint8`]),
          node('DequantizeLinear', `${x}.dequantise`, [`${x}.uint8`, ...parameters], [`${x}.again`]),
        ];
      }),
      ...once(w, () => {
        const inputs = [weight.weight.name, weight.scale.name, weight.zero.name];
        return [node('DequantizeLinear', `${w}.dequantise`, inputs, [`${w}.again`], { axis: 1 })];
      }),
      { ...product, input: [`${x}.again`, `${w}.again`] },
    ];
  });
  return { ...form, graph: { ...form.graph, initializer: [...form.graph.initializer, ...constants] } };
}

/** The model with its products replaced; `once` gives the nodes that belong to a tensor the first time. */
function rewritten(model, weights, replace) {
  const { graph } = model;
  const products = new Set(productsOf(graph));
  const done = new Set();
  const once = (tensor, make) => {
    if (done.has(tensor)) return [];
    done.add(tensor);
    return make();
  };
  const nodes = graph.node.flatMap((each) =>
    products.has(each) ? replace(each, weights.get(each.input[1]), once) : [each],
  );
  const read = new Set(nodes.flatMap(({ input }) => input));
  const added = [...weights.values()].flatMap(({ weight, scale, zero }) => [weight, scale, zero]);
  const initializer = [...graph.initializer, ...added].filter(({ name }) => read.has(name));
  return { ...model, graph: { ...graph, node: nodes, initializer } };
}

function node(op_type, name, input, output, attributes = {}) {
  const attribute = Object.entries(attributes).map(([key, i]) => ({ name: key, type: attributeTypes.int, i }));
  return { name, op_type, input, output, attribute };
}

function constant(name, type, dims, values) {
  const raw_data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { name, dims, data_type: elementTypes[type], raw_data };
}
