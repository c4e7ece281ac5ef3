/**
 * ONNX models as bytes and back. (The messages are described in `proto.ts`; this file alone loads the library for them.)
 */
import protobuf from 'protobufjs/light.js';
import type { ModelProto } from './proto.ts';

type Field = readonly [id: number, type: string, rule?: 'repeated'];

const messages: Readonly<Record<string, Readonly<Record<string, Field>>>> = {
  ModelProto: {
    ir_version: [1, 'int64'],
    producer_name: [2, 'string'],
    producer_version: [3, 'string'],
    graph: [7, 'GraphProto'],
    opset_import: [8, 'OperatorSetIdProto', 'repeated'],
    metadata_props: [14, 'StringStringEntryProto', 'repeated'],
  },
  OperatorSetIdProto: { domain: [1, 'string'], version: [2, 'int64'] },
  StringStringEntryProto: { key: [1, 'string'], value: [2, 'string'] },
  GraphProto: {
    node: [1, 'NodeProto', 'repeated'],
    name: [2, 'string'],
    initializer: [5, 'TensorProto', 'repeated'],
    input: [11, 'ValueInfoProto', 'repeated'],
    output: [12, 'ValueInfoProto', 'repeated'],
  },
  NodeProto: {
    input: [1, 'string', 'repeated'],
    output: [2, 'string', 'repeated'],
    name: [3, 'string'],
    op_type: [4, 'string'],
    attribute: [5, 'AttributeProto', 'repeated'],
  },
  AttributeProto: {
    name: [1, 'string'],
    f: [2, 'float'],
    i: [3, 'int64'],
    ints: [8, 'int64', 'repeated'],
    type: [20, 'int32'],
  },
  TensorProto: {
    dims: [1, 'int64', 'repeated'],
    data_type: [2, 'int32'],
    name: [8, 'string'],
    raw_data: [9, 'bytes'],
    external_data: [13, 'StringStringEntryProto', 'repeated'],
    data_location: [14, 'int32'],
  },
  ValueInfoProto: { name: [1, 'string'], type: [2, 'TypeProto'] },
  TypeProto: { tensor_type: [1, 'TensorTypeProto'] },
  TensorTypeProto: { elem_type: [1, 'int32'], shape: [2, 'TensorShapeProto'] },
  TensorShapeProto: { dim: [1, 'DimensionProto', 'repeated'] },
  DimensionProto: { dim_value: [1, 'int64'], dim_param: [2, 'string'] },
};

let modelType: protobuf.Type | undefined;

/** The type of a model, which is described to the library when the first one is written or read. */
function modelMessage(): protobuf.Type {
  modelType ??= protobuf.Root.fromJSON({
    nested: Object.fromEntries(
      Object.entries(messages).map(([message, fields]) => [
        message,
        {
          edition: 'proto3',
          fields: Object.fromEntries(
            Object.entries(fields).map(([field, [id, type, rule]]) => [field, { id, type, ...(rule && { rule }) }]),
          ),
        },
      ]),
    ),
  }).lookupType('ModelProto');
  return modelType;
}

/** The bytes of an `.onnx` file. */
export function encodeModel(model: ModelProto): Uint8Array {
  const type = modelMessage();
  return type.encode(type.fromObject(model)).finish();
}

/** Reads an `.onnx` file of this library. Messages and fields that the library does not write are skipped. */
export function decodeModel(bytes: Uint8Array): ModelProto {
  const type = modelMessage();
  return type.toObject(type.decode(bytes), { longs: Number, arrays: true }) as ModelProto;
}
