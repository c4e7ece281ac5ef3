/**
 * Traces by OpenTelemetry, for programs that have registered an SDK: a span for each request, and below it one for each stage of its calls.
 * Without an SDK nothing is made.
 */
import {
  type Attributes,
  type Context,
  context,
  ProxyTracerProvider,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import type { CallStage, RunReport } from '../inference/index.ts';
import type { Failure } from './errors.ts';
import { packageVersion } from './version.ts';

let version: string | undefined;

/** The tracer of the program; undefined where it has none, which may change at any time. */
function tracer(): Tracer | undefined {
  const provider = trace.getTracerProvider();
  if (provider instanceof ProxyTracerProvider && !provider.getDelegateTracer('mome')) return undefined;
  version ??= packageVersion();
  return provider.getTracer('mome', version);
}

/** Milliseconds since 1970 of a time of `performance.now()`. */
const epoch = (time: number) => performance.timeOrigin + time;

/** Runs and the span of the first request that each has served: those of the others lead to it. */
const firstSpans = new WeakMap<RunReport, Span>();

/** The span of one request. */
export class RequestTrace {
  /** In which the request is worked on. */
  readonly context: Context;
  readonly #tracer: Tracer;
  readonly #span: Span;

  private constructor(of: Tracer, span: Span, parent: Context) {
    this.#tracer = of;
    this.#span = span;
    this.context = trace.setSpan(parent, span);
  }

  /**
   * Begins the span of a request, below the one that its headers name, or the one that is active: of an instrumentation of HTTP.
   *
   * @param begun time of `performance.now()`
   * @returns undefined where nobody traces this request
   */
  static begin<Carrier>(
    name: string,
    begun: number,
    carrier: Carrier,
    getter: TextMapGetter<Carrier>,
    attributes: () => Attributes,
  ): RequestTrace | undefined {
    const of = tracer();
    if (!of) return undefined;
    const active = context.active();
    const isInside = trace.getSpan(active) !== undefined;
    const parent = isInside ? active : propagation.extract(active, carrier, getter);
    const kind = isInside ? SpanKind.INTERNAL : SpanKind.SERVER;
    const span = of.startSpan(name, { kind, startTime: epoch(begun), attributes: attributes() }, parent);
    return new RequestTrace(of, span, parent);
  }

  /** What log lines of the request carry. */
  get fields(): { readonly trace_id: string; readonly span_id: string; readonly trace_flags: string } {
    const { traceId, spanId, traceFlags } = this.#span.spanContext();
    return { trace_id: traceId, span_id: spanId, trace_flags: `0${traceFlags.toString(16)}`.slice(-2) };
  }

  /** Notes why a request fails; the fault of a client is no error of the server. */
  failed(error: unknown, { status, code, message }: Failure): void {
    this.#span.setAttribute('mome.error.code', code);
    if (status < 500) return;
    this.#span.setAttribute('error.type', code);
    this.#span.setStatus({ code: SpanStatusCode.ERROR, message });
    if (error instanceof Error) this.#span.recordException(error);
  }

  /** @param isFailure whether it is an error of the server, where nothing has said so yet */
  end(attributes: Attributes, isFailure = false): void {
    this.#span.setAttributes(attributes);
    if (isFailure) this.#span.setStatus({ code: SpanStatusCode.ERROR });
    this.#span.end(epoch(performance.now()));
  }

  /** Makes the spans of the stages of a call. @param engine name of the model */
  stagesOf(engine: string): (stage: CallStage) => void {
    return (stage) => {
      switch (stage.stage) {
        case 'decode':
          return this.#child('mome.decode', stage, { 'mome.pictures': stage.pictures }).end(epoch(stage.ended));
        case 'queue':
          return this.#child('mome.queue', stage, { 'mome.items': stage.items }).end(epoch(stage.ended));
        case 'run':
          return this.#run(engine, stage);
        default:
          return stage satisfies never;
      }
    };
  }

  #run(engine: string, stage: CallStage & { readonly stage: 'run' }): void {
    const { run, items } = stage;
    const span = this.#child('mome.run', stage, {
      'mome.engine': engine,
      'mome.items': items,
      ...(run && {
        'mome.run.heads': run.heads.join('+'),
        'mome.run.items': run.items,
        'mome.run.tokens': run.rows,
        'mome.run.fill': run.rows / run.budget,
      }),
    });
    const end = () => span.end(epoch(stage.ended));
    const first = run && firstSpans.get(run);
    if (first) {
      span.addLink({ context: first.spanContext() });
      first.addLink({ context: span.spanContext() });
    }
    if (!run || first) end();
    else {
      firstSpans.set(run, span);
      queueMicrotask(end); // by then all requests of the run have told of it
    }
  }

  #child(name: string, { begun, error }: CallStage, attributes: Attributes): Span {
    const span = this.#tracer.startSpan(name, { startTime: epoch(begun), attributes }, this.context);
    if (error === undefined) return span;
    const { code } = error as { readonly code?: unknown };
    if (typeof code === 'string') span.setAttribute('error.type', code);
    span.setStatus({ code: SpanStatusCode.ERROR });
    if (error instanceof Error) span.recordException(error);
    return span;
  }
}

const traces = new WeakMap<object, RequestTrace>();

/** Notes the trace of a request. */
export const setTrace = (request: object, of: RequestTrace): void => void traces.set(request, of);

export const traceOf = (request: object): RequestTrace | undefined => traces.get(request);
