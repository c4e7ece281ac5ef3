"""Writes small data files of the formats that training reads, by pyarrow and Python's tarfile: what the readers' tests compare with.

    python3 scripts/reference/data-files.py ts/test/train/data/fixtures

Every picture is a PNG of 4 x 4 pixels of one colour, [10 * row, 5, 200].
"""
import io
import json
import struct
import sys
import tarfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def png(row, side=4):
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    lines = b''.join(b'\0' + bytes([10 * row, 5, 200]) * side for _ in range(side))
    header = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(lines)) + chunk(b'IEND', b'')


def write_arrow(path, table, rows_per_batch, options=None):
    with pa.OSFile(str(path), 'wb') as sink, pa.RecordBatchFileWriter(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows_per_batch)


def main(folder):
    captions = [[f'a first {row}', f'a second {row}'][: 1 + row % 2] for row in range(7)]
    pairs = pa.table(
        {
            'image': pa.array([png(row) for row in range(7)], pa.large_binary()),
            'caption': pa.array(captions, pa.list_(pa.string())),
            'image_id': pa.array([f'picture_{row}.jpg' for row in range(7)], pa.string()),
            'split': pa.array(['train'] * 7, pa.string()),
        }
    )
    write_arrow(folder / 'coco.arrow', pairs, 3)
    compressed = pa.ipc.IpcWriteOptions(compression='zstd')
    write_arrow(folder / 'compressed.arrow', pairs, 3, compressed)
    with pa.OSFile(str(folder / 'stream.arrow'), 'wb') as sink, pa.RecordBatchStreamWriter(sink, pairs.schema) as writer:
        writer.write_table(pairs)

    regions = pa.table(
        {
            'image': pa.array([png(0), None, png(2)], pa.binary()),
            'caption': pa.array([['left', 'right'], ['lost'], ['näher']], pa.list_(pa.string())),
            'width': pa.array([[3, 4], [5], [6]], pa.list_(pa.int64())),
            'seen': pa.array([True, None, False]),
        }
    )
    write_arrow(folder / 'regions.arrow', regions, 8)

    vqa = pa.table(
        {
            'image': pa.array([png(row) for row in range(3)], pa.binary()),
            'questions': [['what is it?', 'which colour?'], ['why?'], ['how many?', 'who?', 'where?']],
            'answers': [[['cat'], ['red', 'blue']], [[]], [['2'], [], ['here', 'there']]],
            'answer_labels': pa.array([[[7], [1, 2]], [[]], [[3], [], [8, 9]]], pa.list_(pa.list_(pa.int64()))),
            'answer_scores': pa.array([[[1.0], [0.9, 0.3]], [[]], [[0.6], [], [0.3, 1.0]]]),
            'image_id': [4, 5, 6],
            'question_id': [[40, 41], [50], [60, 61, 62]],
            'split': ['train'] * 3,
        }
    )
    write_arrow(folder / 'vqa.arrow', vqa, 2)

    nlvr2 = pa.table(
        {
            'image_0': [png(0), png(2)],
            'image_1': [png(1), png(3)],
            'questions': [['both are red'], ['one is', 'none is']],
            'answers': [['True'], ['False', 'True']],
            'identifier': [['a-0'], ['b-0', 'b-1']],
        }
    )
    write_arrow(folder / 'nlvr2.arrow', nlvr2, 8)

    lines = pa.table({'image': ['None'] * 5, 'caption': [[f'line {row}'] for row in range(5)], 'source': ['wiki'] * 5})
    write_arrow(folder / 'wikibk.arrow', lines, 2)

    hugging_face = pa.table(
        {
            'image': [{'bytes': png(row), 'path': f'{row}.png'} for row in range(7)],
            'text': [f'caption {row}' for row in range(7)],
            'visual_tokens': pa.array([[row, 1, 2, 3] for row in range(7)], pa.list_(pa.int64())),
        }
    )
    pq.write_table(hugging_face, folder / 'hugging-face.parquet', row_group_size=3, compression='snappy')
    plain = pa.table({'jpg': [png(row) for row in range(5)], 'captions': captions[:5]})
    pq.write_table(plain, folder / 'plain.parquet', row_group_size=2, compression='zstd', data_page_version='2.0')
    pq.write_table(plain, folder / 'gzip.parquet', compression='gzip', use_dictionary=False, write_page_index=True)

    with tarfile.open(folder / 'shard.tar', 'w', format=tarfile.GNU_FORMAT) as tar:
        for row in range(4):
            key = f'deep/{row:06d}' if row < 3 else 'long/' + 120 * 'n'
            texts = {
                0: ('txt', f'words {row}\n'.encode()),
                1: ('json', json.dumps({'caption': f'words {row}', 'other': 1}).encode()),
                2: ('cls', b'3'),
                3: ('txt', 'wörter 3'.encode()),
            }[row]
            for extension, content in [('png', png(row)), texts, ('bin', b'left alone')]:
                entry = tarfile.TarInfo(f'{key}.{extension}')
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        tar.addfile(tarfile.TarInfo('no-picture.txt'))
    with tarfile.open(folder / 'pax.tar', 'w', format=tarfile.PAX_FORMAT) as tar:
        for name, content in [('ünï/1.x.png', png(1)), ('ünï/2.png', png(2)), ('ünï/2.txt', b'two')]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


main(Path(sys.argv[1]))
