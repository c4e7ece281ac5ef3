/**
 * The parameters of a model as typed operands: checkpoint names on one side, named dimensions on the other.
 */

import {
  gridOf,
  hiddenOf,
  imageTokensOf,
  relativePositionsOf,
  tokenTypesOf,
  type VlmoConfig,
} from '../architecture/config.ts';
import { type Expert, expertName } from '../architecture/parameters.ts';
import {
  type Dim,
  type ExpertWeights,
  fixed,
  type Graph,
  type Linear,
  type Norm,
  type Parameter,
  type Qkv,
} from '../graph/index.ts';

/** Fixed dimensions of a model. */
export interface ModelDims {
  readonly width: Dim<'width'>;
  readonly hidden: Dim<'hidden'>;
  readonly qkv: Dim<'qkv'>;
  readonly patch: Dim<'patch'>;
  readonly vocabulary: Dim<'vocabulary'>;
  readonly doubleWidth: Dim<'doubleWidth'>;
  readonly answers: Dim<'answers'>;
  readonly one: Dim<'one'>;
  readonly patches: Dim<'patches'>;
}

/** Weights of one block. A layer may lack an expert, such as `vl` below the first VL layer. */
export interface BlockWeights {
  readonly layer: number;
  readonly norm1: Norm<'width'>;
  readonly qkv: Qkv;
  readonly proj: Required<Linear<'width', 'width'>>;
  readonly gamma1: Parameter<['width']> | undefined;
  readonly gamma2: Parameter<['width']> | undefined;
  expert(name: Expert): ExpertWeights;
}

/** Declares the weights of `config` in `graph` as they are asked for. */
export class ModelWeights {
  readonly config: VlmoConfig;
  readonly graph: Graph;
  readonly dims: ModelDims;

  constructor(graph: Graph, config: VlmoConfig) {
    this.graph = graph;
    this.config = config;
    const { width, vocabularySize, answers, patchSize } = config;
    this.dims = {
      width: fixed('width', width),
      hidden: fixed('hidden', hiddenOf(config)),
      qkv: fixed('qkv', 3 * width),
      patch: fixed('patch', 3 * patchSize ** 2),
      vocabulary: fixed('vocabulary', vocabularySize),
      doubleWidth: fixed('doubleWidth', 2 * width),
      answers: fixed('answers', answers),
      one: fixed('one', 1),
      patches: fixed('patches', gridOf(config) ** 2),
    };
  }

  /** Gamma and beta of `name`. */
  norm<W extends string>(name: string, width: Dim<W>): Norm<W> {
    return {
      gamma: this.graph.parameter<[W]>(`${name}.weight`, [width]),
      beta: this.graph.parameter<[W]>(`${name}.bias`, [width]),
    };
  }

  /** Weight and bias of `name`. */
  linear<I extends string, O extends string>(name: string, inputs: Dim<I>, outputs: Dim<O>): Required<Linear<I, O>> {
    return { ...this.projection(name, inputs, outputs), bias: this.graph.parameter<[O]>(`${name}.bias`, [outputs]) };
  }

  /** Weight of `name`, which has no bias. */
  projection<I extends string, O extends string>(
    name: string,
    inputs: Dim<I>,
    outputs: Dim<O>,
  ): { weight: Parameter<[O, I]> } {
    return { weight: this.graph.parameter<[O, I]>(`${name}.weight`, [outputs, inputs]) };
  }

  /** A scalar parameter. */
  scalar(name: string): Parameter<[]> {
    return this.graph.parameter<[]>(name, []);
  }

  get typeTable(): Parameter<['types', 'width']> {
    return this.graph.parameter('token_type_embeddings.weight', [
      fixed('types', tokenTypesOf(this.config)),
      this.dims.width,
    ]);
  }

  get textEmbedding() {
    const { width, vocabulary } = this.dims;
    return {
      word: this.graph.parameter('text_embeddings.word_embeddings.weight', [vocabulary, width]),
      segment: this.graph.parameter('text_embeddings.token_type_embeddings.weight', [fixed('segments', 2), width]),
      position:
        this.config.positions === 'absolute'
          ? this.graph.parameter('text_embeddings.position_embeddings.weight', [
              fixed('textPositions', this.config.maxTextLength),
              width,
            ])
          : undefined,
      norm: this.norm('text_embeddings.LayerNorm', width),
      type: this.typeTable,
    };
  }

  get patchEmbedding() {
    const { width, one, patch } = this.dims;
    return {
      // The checkpoint's shape is [width, 3, patch, patch]: the same memory as [width, 3 patch^2].
      projection: this.linear('transformer.patch_embed.proj', patch, width),
      cls: this.graph.parameter('transformer.cls_token', [one, one, width]),
      position:
        this.config.positions === 'absolute'
          ? this.graph.parameter('transformer.pos_embed', [
              one,
              fixed('imageTokens', imageTokensOf(this.config)),
              width,
            ])
          : undefined,
      type: this.typeTable,
    };
  }

  /** The embedding of masked patches, of a configuration with visual tokens. */
  get maskToken(): Parameter<['one', 'one', 'width']> {
    return this.graph.parameter('transformer.mask_token', [this.dims.one, this.dims.one, this.dims.width]);
  }

  /** Shared by the attention of all blocks: heads, grid and the relative table with a column per layer and head. */
  get attentionOptions() {
    const { config, dims, graph } = this;
    return {
      heads: config.heads,
      width: dims.width,
      grid: gridOf(config),
      textInitLength: config.maxTextLengthOfInit,
      table:
        config.positions === 'relative'
          ? graph.parameter('relative_position_bias_table', [
              fixed('positions', relativePositionsOf(config)),
              fixed('tableColumns', config.heads * config.layers),
            ])
          : undefined,
    };
  }

  /** The final normalisation. */
  get finalNorm(): Norm<'width'> {
    return this.norm('transformer.norm', this.dims.width);
  }

  block(layer: number): BlockWeights {
    const { width, hidden, qkv } = this.dims;
    const name = `transformer.blocks.${layer}`;
    const gamma = (key: string) =>
      this.config.layerScale === null ? undefined : this.graph.parameter<['width']>(`${name}.${key}`, [width]);
    return {
      layer,
      norm1: this.norm(`${name}.norm1`, width),
      qkv: {
        weight: this.graph.parameter(`${name}.attn.qkv.weight`, [qkv, width]),
        qBias: this.graph.parameter(`${name}.attn.q_bias`, [width]),
        vBias: this.graph.parameter(`${name}.attn.v_bias`, [width]),
      },
      proj: this.linear(`${name}.attn.proj`, width, width),
      gamma1: gamma('gamma_1'),
      gamma2: gamma('gamma_2'),
      expert: (expert) => {
        const own = expertName(this.config, expert);
        return {
          norm: this.norm(`${name}.norm2_${own}`, width),
          fc1: this.linear(`${name}.mlp_${own}.fc1`, width, hidden),
          fc2: this.linear(`${name}.mlp_${own}.fc2`, hidden, width),
        };
      },
    };
  }
}
