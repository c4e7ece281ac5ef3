"""The peers on the GPU: VLMo base's image encoder in plain PyTorch modules, eager and compiled, and the single ops, all bfloat16.

Each figure is a list of seconds. The encoder's time is from bytes in ordinary memory to embeddings there, as the library's; an op's is the
mean of many launches between two waits.

    python3 torch_peer.py eager|compile|compile-default <batch>:<rounds>...    prints the encoder's figures, a line of JSON for each batch
    python3 torch_peer.py ops|ceilings                                         prints those of the device
"""
import concurrent.futures
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HIDDEN, HEADS, LAYERS, GRID, TOKENS = 768, 3072, 12, 12, 14, 197


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.gamma_1, self.gamma_2 = nn.Parameter(0.1 * torch.ones(WIDTH)), nn.Parameter(0.1 * torch.ones(WIDTH))
        self.register_buffer("bias", 0.1 * torch.randn(1, HEADS, TOKENS, TOKENS))

    def forward(self, x):
        batch = x.shape[0]
        q, k, v = self.qkv(self.norm_1(x)).reshape(batch, TOKENS, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
        x = x + self.gamma_1 * self.proj(attended.transpose(1, 2).reshape(batch, TOKENS, WIDTH))
        return x + self.gamma_2 * self.fc2(F.gelu(self.fc1(self.norm_2(x))))


class ImageEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 16, stride=16)
        self.cls, self.modality = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Parameter(torch.zeros(WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, pixels):
        """uint8 [batch, 224, 224, 3] to embeddings of length 1."""
        x = pixels.permute(0, 3, 1, 2).to(torch.bfloat16) * (2 / 255) - 1
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.modality
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.head(self.norm(x[:, 0])).float(), dim=-1)


def call(model, pixels):
    with torch.inference_mode():
        model(pixels.cuda()).cpu()


def encoder_seconds(model, pixels, rounds):
    seconds = []
    for round_ in range(rounds + 3):
        started = time.perf_counter()
        call(model, pixels)
        if round_ >= 3:
            seconds.append(time.perf_counter() - started)
    return seconds


def overlapped_seconds(model, pixels, rounds):
    """Seconds per call where two are under way at a time, each on a stream of its own."""
    def calls(count):
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(count):
                call(model, pixels)

    def together(count):
        started = time.perf_counter()
        for done in [pool.submit(calls, count) for _ in range(2)]:
            done.result()
        return (time.perf_counter() - started) / (2 * count)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        together(3)
        return [together(max(2, rounds // 2)) for _ in range(2)]


def op_seconds(run, rounds=10, launches=20):
    seconds = []
    with torch.inference_mode():
        for round_ in range(rounds + 2):
            torch.cuda.synchronize()
            started = time.perf_counter()
            for _ in range(launches):
                run()
            torch.cuda.synchronize()
            if round_ >= 2:
                seconds.append((time.perf_counter() - started) / launches)
    return seconds


def make_encoder():
    torch.manual_seed(1)
    return ImageEncoder().to("cuda", torch.bfloat16).eval()


def ops():
    """The library's kernels by name, as torch runs them at the same sizes."""
    rows = 64 * TOKENS
    new = lambda *shape: 0.1 * torch.randn(*shape, device="cuda", dtype=torch.bfloat16)
    x, vector, hidden = new(rows, WIDTH), new(WIDTH), new(HIDDEN)
    qkv, proj, fc1, fc2 = new(3 * WIDTH, WIDTH), new(WIDTH, WIDTH), new(HIDDEN, WIDTH), new(WIDTH, HIDDEN)
    qkv_bias = new(3 * WIDTH)
    q, k, v = (new(64, HEADS, TOKENS, WIDTH // HEADS) for _ in range(3))
    bias = new(1, HEADS, TOKENS, TOKENS)
    return {
        "qkv": lambda: F.linear(x, qkv, qkv_bias),
        "proj_residual": lambda: x + vector * F.linear(x, proj, vector),
        "layer_norm": lambda: F.layer_norm(x, (WIDTH,), vector, vector, 1e-6),
        "expert_ffn": lambda: x + vector * F.linear(F.gelu(F.linear(F.layer_norm(x, (WIDTH,), vector, vector, 1e-6), fc1, hidden)), fc2, vector),
        "attention, no bias": lambda: F.scaled_dot_product_attention(q, k, v),
        "attention": lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=bias),
        "matmul 768 x 2304": lambda: x @ qkv.T,
        "matmul 768 x 3072": lambda: x @ fc1.T,
        "matmul 3072 x 768": lambda a=new(rows, HIDDEN): a @ fc2.T,
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


def encoder(kind, batch, rounds):
    model = make_encoder()
    # Graphs of CUDA, which a batch of one needs most, are a thread's own: no calls that overlap.
    overlaps = kind == "eager" and batch > 1 or batch >= 64
    if kind == "compile":
        model = torch.compile(model, mode="max-autotune-no-cudagraphs" if overlaps else "max-autotune", dynamic=False)
    elif kind == "compile-default":
        model = torch.compile(model, dynamic=False)
    pixels = torch.randint(0, 256, (batch, 224, 224, 3), dtype=torch.uint8)
    entry = {"batch": batch, "mode": kind, "seconds": encoder_seconds(model, pixels, rounds)}
    if overlaps and rounds > 1:
        try:
            entry["overlapped"] = overlapped_seconds(model, pixels, rounds)
        except Exception as problem:  # noqa: BLE001: the figure above stays
            entry["overlappedError"] = f"{type(problem).__name__}: {problem}"[:300]
    return entry


def main():
    kind, *batches = sys.argv[1:]
    if kind == "ops":
        print(json.dumps({name: op_seconds(run) for name, run in ops().items()}))
    elif kind == "ceilings":
        print(json.dumps(ceilings()))
    for words in batches:
        batch, rounds = map(int, words.split(":"))
        print(json.dumps(encoder(kind, batch, rounds)), flush=True)


if __name__ == "__main__":
    main()
