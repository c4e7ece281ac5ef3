"""VLMo base in plain PyTorch modules, answering requests of bench/peers/torch.mjs: one line of JSON in, one out.

Same sizes and same work as the library's model: patch and text embeddings, twelve blocks with shared attention, relative position
bias and layer scale, experts by modality, heads; random weights. `train` is one AdamW step on ITC (with its VL branch), ITM and MLM.
"""
import json
import sys

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HEADS, LAYERS, FIRST_VL, GRID, VOCABULARY = 768, 12, 12, 10, 14, 30522
IMAGE_TOKENS = 1 + GRID * GRID


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, bias):
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        scores = (q * (WIDTH // HEADS) ** -0.5) @ k.transpose(-2, -1) + bias
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, tokens, WIDTH))


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class Block(nn.Module):
    def __init__(self, vl):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attention = Attention()
        self.experts = nn.ModuleDict({name: Expert() for name in ("text", "image", "vl")[: 3 if vl else 2]})
        self.gamma_1 = nn.Parameter(0.1 * torch.ones(WIDTH))
        self.gamma_2 = nn.Parameter(0.1 * torch.ones(WIDTH))

    def forward(self, x, bias, parts):
        """`parts`: (expert, tokens) in order."""
        x = x + self.gamma_1 * self.attention(self.norm(x), bias)
        if len(parts) == 1:
            return x + self.gamma_2 * self.experts[parts[0][0]](x)
        pieces = torch.split(x, [tokens for _, tokens in parts], dim=1)
        return torch.cat([p + self.gamma_2 * self.experts[name](p) for p, (name, _) in zip(pieces, parts)], dim=1)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(VOCABULARY, WIDTH)
        self.text_norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.types = nn.Embedding(2, WIDTH)
        self.patch = nn.Conv2d(3, WIDTH, 16, 16)
        self.cls = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.blocks = nn.ModuleList(Block(layer >= FIRST_VL) for layer in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.table = nn.Parameter(0.02 * torch.randn(1200, LAYERS * HEADS))
        self.pooler = nn.Linear(WIDTH, WIDTH)
        self.itm = nn.Linear(WIDTH, 2)
        self.itc = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH, bias=False) for name in ("text", "image", "vl_text", "vl_image")})
        self.mlm = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY))
        self.scale = nn.Parameter(torch.tensor(2.6))
        size = 40 + IMAGE_TOKENS
        offset = torch.arange(size)[:, None] - torch.arange(size)[None, :] + size
        self.register_buffer("index", offset.clamp(0, 1199))

    def biases(self, tokens):
        rows = self.table[self.index[:tokens, :tokens].reshape(-1)]
        return rows.reshape(tokens, tokens, LAYERS, HEADS).permute(2, 3, 0, 1)

    def embed_text(self, ids):
        return self.text_norm(self.word(ids)) + self.types.weight[0]

    def embed_image(self, pixels):
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.types.weight[1]

    def unimodal(self, x, expert, branch=False):
        biases = self.biases(x.shape[1])
        side = None
        for layer, block in enumerate(self.blocks):
            if layer == FIRST_VL and branch:
                side = x
                for vl, vl_block in enumerate(self.blocks[FIRST_VL:], FIRST_VL):
                    side = vl_block(side, biases[vl], [("vl", x.shape[1])])
            x = block(x, biases[layer], [(expert, x.shape[1])])
        return self.norm(x), side

    def fused(self, ids, pixels, mask=None):
        text, image = self.embed_text(ids), self.embed_image(pixels)
        x = torch.cat([text, image], dim=1)
        biases = self.biases(x.shape[1])
        if mask is not None:
            hidden = torch.zeros(len(ids), 1, 1, x.shape[1])
            hidden[:, 0, 0, : ids.shape[1]].masked_fill_(mask == 0, float("-inf"))
        for layer, block in enumerate(self.blocks):
            parts = [("vl", x.shape[1])] if layer >= FIRST_VL else [("text", ids.shape[1]), ("image", IMAGE_TOKENS)]
            x = block(x, biases[layer] if mask is None else biases[layer] + hidden, parts)
        return self.norm(x)

    def loss(self, ids, pixels):
        pairs = len(ids)
        text, text_side = self.unimodal(self.embed_text(ids), "text", branch=True)
        image, image_side = self.unimodal(self.embed_image(pixels), "image", branch=True)
        target = torch.arange(pairs)
        total = 0
        for t, i, prefix in ((text, image, ""), (self.norm(text_side), self.norm(image_side), "vl_")):
            similarity = self.scale.exp() * F.normalize(self.itc[prefix + "image"](i[:, 0]), dim=-1) @ F.normalize(
                self.itc[prefix + "text"](t[:, 0]), dim=-1
            ).t()
            total = total + (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.t(), target)) / 4
        other = target.roll(1)
        rows = self.fused(torch.cat([ids, ids, ids[other], ids]), torch.cat([pixels, pixels[other], pixels, pixels]))
        logits = self.itm(torch.tanh(self.pooler(rows[: 3 * pairs, 0])))
        labels = torch.cat([torch.ones(pairs), torch.zeros(2 * pairs)]).long()
        masked = rows[3 * pairs :, 1:3].reshape(-1, WIDTH)
        return total + F.cross_entropy(logits, labels) + 0.25 * F.cross_entropy(self.mlm(masked), ids[:, 1:3].reshape(-1))


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    model = Model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01)

    def inputs(request):
        batch = request.get("batch", 1)
        ids = torch.randint(1000, 2000, (batch, request.get("length", 12)))
        mask = (torch.arange(ids.shape[1]) < request.get("real", ids.shape[1])).long().expand(batch, -1)
        return ids, mask, torch.randn(batch, 3, 224, 224)

    cached = {}
    for line in sys.stdin:
        request = json.loads(line)
        what = request["what"]
        if what == "version":
            print(json.dumps({"version": torch.__version__}), flush=True)
            continue
        if line not in cached:
            cached[line] = inputs(request)
        ids, mask, pixels = cached[line]
        if what == "train":
            optimiser.zero_grad(set_to_none=True)
            loss = model.loss(ids, pixels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            print(json.dumps({"loss": float(loss)}), flush=True)
            continue
        with torch.inference_mode():
            if what == "image":
                result = model.itc["image"](model.unimodal(model.embed_image(pixels), "image")[0][:, 0])
            elif what == "text":
                result = model.itc["text"](model.unimodal(model.embed_text(ids), "text")[0][:, 0])
            else:
                result = model.itm(torch.tanh(model.pooler(model.fused(ids, pixels, mask)[:, 0])))
        print(json.dumps({"sum": float(result.sum())}), flush=True)


main()
