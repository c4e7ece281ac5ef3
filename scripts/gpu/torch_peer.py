"""The peers on the GPU: VLMo base in plain PyTorch modules, eager and compiled, and the single ops, all bfloat16.

Each figure is a list of seconds. The encoder's time is from bytes and token ids in ordinary memory to embeddings or scores there, as the
library's; an op's is the mean of many launches between two waits. The model is written as one deploys it: one bias for q, k and v, position
biases expanded ahead. bench/peers/torch_peer.py has it as it is trained; test_peer.py holds the two to the same answers.

    python3 torch_peer.py eager|compile|compile-default <shape>:<rounds>...    prints the encoder's figures, a line of JSON for each shape, "pairs 32"
    python3 torch_peer.py ops|ceilings|sweep                                   prints those of the device
"""
import concurrent.futures
import functools
import json
import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

from figures import OVERLAPPED, TEXT_TOKENS

WIDTH, HIDDEN, HEADS, LAYERS, FIRST_VL, GRID, VOCABULARY = 768, 3072, 12, 12, 10, 14, 30522
TOKENS = 1 + GRID * GRID
DEVICE = "cuda"


def joined(pieces):
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class Block(nn.Module):
    def __init__(self, parts):
        """`parts`: the tokens of each expert, in order."""
        super().__init__()
        self.parts = parts
        self.norm, self.qkv, self.proj = nn.LayerNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.experts = nn.ModuleList(Expert() for _ in parts)
        self.gamma_1, self.gamma_2 = nn.Parameter(0.1 * torch.ones(WIDTH)), nn.Parameter(0.1 * torch.ones(WIDTH))
        self.register_buffer("bias", 0.1 * torch.randn(1, HEADS, sum(parts), sum(parts)))

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
        x = x + self.gamma_1 * self.proj(attended.transpose(1, 2).reshape(batch, tokens, WIDTH))
        return joined([piece + self.gamma_2 * expert(piece) for piece, expert in zip(x.split(self.parts, dim=1), self.experts)])


class TextEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.norm = nn.Embedding(VOCABULARY, WIDTH), nn.LayerNorm(WIDTH, eps=1e-12)
        self.kind, self.modality = nn.Parameter(torch.zeros(WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, ids):
        return self.norm(self.words(ids) + self.kind) + self.modality


class ImageEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 16, stride=16)
        self.cls, self.modality = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, pixels):
        """uint8 [batch, height, width, 3]"""
        x = pixels.permute(0, 3, 1, 2).to(self.patch.weight.dtype) * (2 / 255) - 1
        x = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.modality


class Encoder(nn.Module):
    """Texts or images to embeddings of length 1; pairs of both to two scores each, match or none."""

    def __init__(self, kind):
        super().__init__()
        self.pairs = kind == "pairs"
        made = {"texts": [TextEmbedding], "images": [ImageEmbedding], "pairs": [TextEmbedding, ImageEmbedding]}[kind]
        self.embeddings = nn.ModuleList(each() for each in made)
        parts = [TEXT_TOKENS if each is TextEmbedding else TOKENS for each in made]
        self.blocks = nn.ModuleList(Block([sum(parts)] if layer >= FIRST_VL and self.pairs else parts) for layer in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2)) if self.pairs else nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, *inputs):
        """Token ids, uint8 pixels, or both in this order."""
        x = joined([embedding(each) for embedding, each in zip(self.embeddings, inputs)])
        for block in self.blocks:
            x = block(x)
        x = self.head(self.norm(x[:, 0])).float()
        return x if self.pairs else F.normalize(x, dim=-1)


def aligned(bias):
    """The same numbers with rows of a multiple of 16 behind each other: attention would copy others to such ones in every call."""
    room = bias.new_zeros(*bias.shape[:-1], -(-bias.shape[-1] // 16) * 16)
    room[..., :bias.shape[-1]] = bias
    return room[..., :bias.shape[-1]]


@functools.cache
def make_encoder(kind):
    torch.manual_seed(1)
    model = Encoder(kind).to(DEVICE, torch.bfloat16).eval()
    for block in model.blocks:
        block.bias = aligned(block.bias)
    return model


def make_inputs(kind, count):
    ids = torch.randint(0, VOCABULARY, (count, TEXT_TOKENS))
    pixels = torch.randint(0, 256, (count, 16 * GRID, 16 * GRID, 3), dtype=torch.uint8)
    return {"texts": [ids], "images": [pixels], "pairs": [ids, pixels]}[kind]


def call(model, inputs):
    with torch.inference_mode():
        model(*(each.to(DEVICE) for each in inputs)).cpu()


def encoder_seconds(model, inputs, rounds):
    seconds = []
    for round_ in range(rounds + 3):
        started = time.perf_counter()
        call(model, inputs)
        if round_ >= 3:
            seconds.append(time.perf_counter() - started)
    return seconds


def overlapped_seconds(model, inputs, rounds):
    """Seconds per call where two are under way at a time, each on a stream of its own."""
    def calls(count):
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(count):
                call(model, inputs)

    def together(count):
        started = time.perf_counter()
        for done in [pool.submit(calls, count) for _ in range(2)]:
            done.result()
        return (time.perf_counter() - started) / (2 * count)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        together(3)
        return [together(max(2, rounds // 2)) for _ in range(2)]


ROTATED_BYTES = 128 << 20  # as mome_device_bench: more than twice the second-level cache
MOST_COPIES = 24


def op_seconds(runs, rounds=10, launches=20):
    """Seconds of a launch by the device's events, the mean of each round. `runs` take turns, so that what one reads is not in the cache."""
    runs, seconds, launched = runs if isinstance(runs, list) else [runs], [], 0
    with torch.inference_mode():
        for round_ in range(rounds + 2):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(launches):
                runs[launched % len(runs)]()
                launched += 1
            end.record()
            end.synchronize()
            if round_ >= 2:
                seconds.append(begin.elapsed_time(end) / 1e3 / launches)
    return seconds


def copies(bytes_touched):
    return max(1, min(MOST_COPIES, -(-ROTATED_BYTES // bytes_touched)))


SWEPT = {"qkv": (WIDTH, 3 * WIDTH), "proj": (WIDTH, WIDTH), "fc1": (WIDTH, HIDDEN), "fc2": (HIDDEN, WIDTH)}
SWEPT_ROWS = (197, 1576, 6304, 12608, 50432)


def sweep():
    """cuBLAS at the sizes of `mome_device_bench --sweep`: product and rows to seconds."""
    found = {}
    for name, (depth, columns) in SWEPT.items():
        for rows in SWEPT_ROWS:
            count = copies(2 * (rows * (depth + columns) + depth * columns))
            # One bias, as there: no more than a column's number.
            bias = torch.randn(columns, device=DEVICE, dtype=torch.bfloat16)
            made = [[0.1 * torch.randn(*shape, device=DEVICE, dtype=torch.bfloat16) for shape in ((rows, depth), (columns, depth))] for _ in range(count)]
            found[f"{name} {rows}"] = op_seconds([functools.partial(F.linear, x, weight, bias) for x, weight in made], rounds=3, launches=10)
            del made
    return found


def ops():
    """The library's kernels by name, as torch runs them at the same sizes: each a list of copies that take turns."""
    rows = 64 * TOKENS
    new = lambda *shape: 0.1 * torch.randn(*shape, device="cuda", dtype=torch.bfloat16)
    vector, hidden = new(WIDTH), new(HIDDEN)
    qkv, proj, fc1, fc2 = new(3 * WIDTH, WIDTH), new(WIDTH, WIDTH), new(HIDDEN, WIDTH), new(WIDTH, HIDDEN)
    qkv_bias = new(3 * WIDTH)
    bias = aligned(new(1, HEADS, TOKENS, TOKENS))

    def turns(run, *shapes):
        """run(*inputs) for copies of inputs of these shapes."""
        made = [[new(*shape) for shape in shapes] for _ in range(copies(2 * sum(math.prod(shape) for shape in shapes)))]
        return [functools.partial(run, *inputs) for inputs in made]

    narrow, wide, head = (rows, WIDTH), (rows, HIDDEN), (64, HEADS, TOKENS, WIDTH // HEADS)
    return {
        "qkv": turns(lambda x: F.linear(x, qkv, qkv_bias), narrow),
        "fc1": turns(lambda x: F.linear(x, fc1, hidden), narrow),
        "fc2": turns(lambda x: F.linear(x, fc2, vector), wide),
        "proj_residual": turns(lambda a, x: x + vector * F.linear(a, proj, vector), narrow, narrow),
        "layer_norm": turns(lambda x: F.layer_norm(x, (WIDTH,), vector, vector, 1e-6), narrow),
        "expert_ffn": turns(lambda x: x + vector * F.linear(F.gelu(F.linear(F.layer_norm(x, (WIDTH,), vector, vector, 1e-6), fc1, hidden)), fc2, vector), narrow),
        "attention, no bias": turns(F.scaled_dot_product_attention, head, head, head),
        "attention": turns(functools.partial(F.scaled_dot_product_attention, attn_mask=bias), head, head, head),
    }


def ceilings():
    """Rates of this device: bfloat16 products of 8192 cubed, and copies of 2 GiB."""
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    matmul = op_seconds(lambda: a @ b, rounds=5, launches=10)
    source = torch.empty(2**31, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = op_seconds(lambda: target.copy_(source), rounds=5, launches=5)
    return {"matmulFlops": [2 * size**3 / s for s in matmul], "copyBytes": [2 * source.numel() / s for s in copy]}


def encoder(mode, shape, rounds):
    kind, count = shape.split()
    model, inputs = make_encoder(kind), make_inputs(kind, int(count))
    # Graphs of CUDA, which small shapes need most, are a thread's own: no calls that overlap.
    overlaps = shape in OVERLAPPED
    if mode == "compile":
        model = torch.compile(model, mode="max-autotune-no-cudagraphs" if overlaps else "max-autotune", dynamic=False)
    elif mode == "compile-default":
        model = torch.compile(model, dynamic=False)
    entry = {"shape": shape, "mode": mode, "seconds": encoder_seconds(model, inputs, rounds)}
    if overlaps and rounds > 1:
        try:
            entry["overlapped"] = overlapped_seconds(model, inputs, rounds)
        except Exception as problem:  # noqa: BLE001: the figure above stays
            entry["overlappedError"] = f"{type(problem).__name__}: {problem}"[:300]
    return entry


def main():
    kind, *shapes = sys.argv[1:]
    if kind == "ops":
        print(json.dumps({name: op_seconds(run) for name, run in ops().items()}))
    elif kind == "ceilings":
        print(json.dumps(ceilings()))
    elif kind == "sweep":
        print(json.dumps(sweep()))
    for words in shapes:
        shape, rounds = words.split(":")
        print(json.dumps(encoder(kind, shape, int(rounds))), flush=True)


if __name__ == "__main__":
    main()
