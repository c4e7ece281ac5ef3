/** The thread that writes parts in Parquet: the library takes the numbers of a list one by one, which would hold up the event loop. */
import { parentPort } from 'node:worker_threads';
import { fileWriter, ParquetWriter } from 'hyparquet-writer';

type SchemaElement = ConstructorParameters<typeof ParquetWriter>[0]['schema'][number];

/** A part to write. */
export interface ParquetPart {
  readonly path: string;
  readonly width: number;
  /** [rows, width]; rows without an embedding hold anything. */
  readonly embeddings: Float32Array;
  readonly sources: readonly string[];
  readonly names: readonly string[];
  /** Of a job of texts. Null where the text could not be read. */
  readonly texts: readonly (string | null)[] | undefined;
  /** Why a row has no embedding; null for those that have one. */
  readonly errors: readonly (string | null)[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly createdBy: string;
}

export type WriterReply = { readonly error?: string; readonly code?: string };

/** Rows of a row group: 6 MiB of embeddings of 768 numbers, and ten times that while they are taken apart. */
const groupRows = 2048;
const pageBytes = 2 ** 20;

const text = (name: string, repetition_type: 'REQUIRED' | 'OPTIONAL'): SchemaElement => ({
  name,
  type: 'BYTE_ARRAY',
  converted_type: 'UTF8',
  logical_type: { type: 'STRING' },
  repetition_type,
});

/** A list of three levels, as the format asks; its elements are never null, the list is where a row has no embedding. */
const schemaOf = (hasTexts: boolean): SchemaElement[] => [
  { name: 'root', num_children: hasTexts ? 5 : 4 },
  text('source', 'REQUIRED'),
  text('name', 'REQUIRED'),
  ...(hasTexts ? [text('text', 'OPTIONAL')] : []),
  {
    name: 'embedding',
    repetition_type: 'OPTIONAL',
    num_children: 1,
    converted_type: 'LIST',
    logical_type: { type: 'LIST' },
  },
  { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
  { name: 'element', type: 'FLOAT', repetition_type: 'REQUIRED' },
  text('error', 'OPTIONAL'),
];

/** Writes a file of a part. The same part gives the same bytes. */
export function writeParquetPart(part: ParquetPart): void {
  const { width, embeddings, sources, names, texts, errors } = part;
  const kvMetadata = Object.entries(part.metadata).map(([key, value]) => ({ key, value }));
  const schema = schemaOf(texts !== undefined);
  const writer = new ParquetWriter({
    writer: fileWriter(part.path),
    schema,
    codec: 'SNAPPY',
    kvMetadata,
    createdBy: part.createdBy,
  });
  for (let begin = 0; begin < names.length; begin += groupRows) {
    const end = Math.min(names.length, begin + groupRows);
    const rows = Array.from({ length: end - begin }, (_, i) =>
      errors[begin + i] === null ? [...embeddings.subarray((begin + i) * width, (begin + i + 1) * width)] : null,
    );
    writer.write({
      columnData: [
        { name: 'source', data: sources.slice(begin, end) },
        { name: 'name', data: names.slice(begin, end) },
        ...(texts ? [{ name: 'text', data: texts.slice(begin, end) }] : []),
        // Numbers without a pattern: packing them takes time and saves nothing.
        { name: 'embedding', data: rows, encoding: 'PLAIN', codec: 'UNCOMPRESSED', statistics: false },
        { name: 'error', data: errors.slice(begin, end) },
      ],
      rowGroupSize: groupRows,
      pageSize: pageBytes,
    });
  }
  writer.finish();
}

parentPort?.on('message', (part: ParquetPart) => {
  let reply: WriterReply = {};
  try {
    writeParquetPart(part);
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    reply = { error: message, ...(code !== undefined && { code }) };
  }
  parentPort?.postMessage(reply);
});
