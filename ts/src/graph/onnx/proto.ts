/**
 * The messages of an ONNX model that this library writes. Names and numbers are those of onnx.proto3, IR version 8.
 */
/** IR version of operator set 17. */
export const irVersion = 8;
/** Operator set: the first that has LayerNormalization. */
export const operatorSet = 17;

export const elementTypes = { float: 1, int64: 7 } as const;
export type ElementType = keyof typeof elementTypes;

export const attributeTypes = { float: 1, int: 2, ints: 7 } as const;

/** `data_location` of a tensor whose bytes lie in another file. */
export const externalLocation = 1;

export interface AttributeProto {
  readonly name: string;
  readonly type: number;
  readonly f?: number;
  readonly i?: number;
  readonly ints?: readonly number[];
}

export interface NodeProto {
  readonly name: string;
  readonly op_type: string;
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly attribute: readonly AttributeProto[];
}

export interface TensorProto {
  readonly name: string;
  readonly dims: readonly number[];
  readonly data_type: number;
  readonly raw_data?: Uint8Array;
  readonly external_data?: readonly StringStringEntryProto[];
  readonly data_location?: number;
}

interface StringStringEntryProto {
  readonly key: string;
  readonly value: string;
}

/** A size, or the name of one that is bound per run. */
export interface DimensionProto {
  readonly dim_value?: number;
  readonly dim_param?: string;
}

export interface ValueInfoProto {
  readonly name: string;
  readonly type: {
    readonly tensor_type: { readonly elem_type: number; readonly shape: { readonly dim: readonly DimensionProto[] } };
  };
}

export interface ModelProto {
  readonly ir_version: number;
  readonly producer_name: string;
  readonly producer_version: string;
  readonly opset_import: readonly { readonly domain: string; readonly version: number }[];
  readonly metadata_props: readonly StringStringEntryProto[];
  readonly graph: {
    readonly name: string;
    readonly node: readonly NodeProto[];
    readonly initializer: readonly TensorProto[];
    readonly input: readonly ValueInfoProto[];
    readonly output: readonly ValueInfoProto[];
  };
}
