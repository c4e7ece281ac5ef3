/** Files of the corpus, in formats that `mome train` reads. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import {
  Binary,
  Field,
  List,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  Schema,
  Struct,
  Utf8,
  vectorFromArray,
} from 'apache-arrow';

const rowsOfBatch = 512;
const types = {
  pixels: new Binary(),
  caption: new List(new Field('item', new Utf8(), false)),
  asked: new List(new Field('item', new Utf8(), false)),
  group: new Utf8(),
  name: new Utf8(),
  set: new Utf8(),
  kind: new Utf8(),
  origin: new Utf8(),
};
const fields = Object.entries(types).map(([name, type]) => new Field(name, type, false));

/** Writes rows of drawings as record batches of an Arrow IPC file. */
export class PairsWriter {
  #writer = new RecordBatchFileWriter();
  #rows = [];
  #schema = new Schema(fields);
  #done;
  count = 0;

  /** @param path of the file; it is written anew */
  constructor(path) {
    const file = createWriteStream(path);
    this.#done = once(file, 'finish');
    this.#writer.toNodeStream().pipe(file);
  }

  add(row) {
    this.#rows.push(row);
    this.count++;
    if (this.#rows.length === rowsOfBatch) this.#flush();
  }

  async close() {
    this.#flush();
    this.#writer.close();
    await this.#done;
  }

  #flush() {
    if (this.#rows.length === 0) return;
    const children = Object.entries(types).map(
      ([name, type]) =>
        vectorFromArray(
          this.#rows.map((row) => row[name]),
          type,
        ).data[0],
    );
    const data = makeData({ type: new Struct(fields), length: this.#rows.length, nullCount: 0, children });
    this.#writer.write(new RecordBatch(this.#schema, data));
    this.#rows = [];
  }
}
