"""VLMo base in plain PyTorch modules, answering requests of bench/peers/torch.mjs: one line of JSON in, one out.

The library's model with the very same weights, read from its safetensors file by their own names: patch and text embeddings, twelve
blocks with shared attention, relative position bias and layer scale, experts by modality, heads. `train` is one AdamW step of a stage
(torch_stages.py).

python3 torch_peer.py <threads> <folder with model.safetensors>
"""
import json
import os
import sys

import numpy
import torch
from torch import nn
from torch.nn import functional as F

import torch_stages

WIDTH, HEADS, LAYERS, FIRST_VL, GRID, VOCABULARY, ANSWERS = 768, 12, 12, 10, 14, 30522, 3129
IMAGE_TOKENS = 1 + GRID * GRID
TEXT_INIT_LENGTH = 196


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(WIDTH))
        self.v_bias = nn.Parameter(torch.zeros(WIDTH))
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, bias):
        batch, tokens, _ = x.shape
        qkv_bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, qkv_bias)
        q, k, v = qkv.reshape(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        scores = (q * (WIDTH // HEADS) ** -0.5) @ k.transpose(-2, -1) + bias
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, tokens, WIDTH))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, vl):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = Attention()
        for name in ("text", "imag", "vl")[: 3 if vl else 2]:
            setattr(self, "norm2_" + name, nn.LayerNorm(WIDTH, eps=1e-6))
            setattr(self, "mlp_" + name, Mlp())
        self.gamma_1 = nn.Parameter(torch.ones(WIDTH))
        self.gamma_2 = nn.Parameter(torch.ones(WIDTH))

    def expert(self, x, name):
        return x + self.gamma_2 * getattr(self, "mlp_" + name)(getattr(self, "norm2_" + name)(x))

    def forward(self, x, bias, parts):
        """`parts`: (expert, tokens) in order."""
        x = x + self.gamma_1 * self.attn(self.norm1(x), bias)
        if len(parts) == 1:
            return self.expert(x, parts[0][0])
        pieces = torch.split(x, [tokens for _, tokens in parts], dim=1)
        return torch.cat([self.expert(piece, name) for piece, (name, _) in zip(pieces, parts)], dim=1)


def classifier(inputs, classes):
    return nn.Sequential(nn.Linear(inputs, 2 * WIDTH), nn.LayerNorm(2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, classes))


def module(**parts):
    """A module of nothing but named parts."""
    result = nn.Module()
    for name, part in parts.items():
        setattr(result, name, part)
    return result


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.text_embeddings = module(
            word_embeddings=nn.Embedding(VOCABULARY, WIDTH),
            token_type_embeddings=nn.Embedding(2, WIDTH),
            LayerNorm=nn.LayerNorm(WIDTH, eps=1e-12),
        )
        self.token_type_embeddings = nn.Embedding(3, WIDTH)
        self.transformer = module(
            patch_embed=module(proj=nn.Conv2d(3, WIDTH, 16, 16)),
            cls_token=nn.Parameter(torch.zeros(1, 1, WIDTH)),
            blocks=nn.ModuleList(Block(layer >= FIRST_VL) for layer in range(LAYERS)),
            norm=nn.LayerNorm(WIDTH, eps=1e-6),
        )
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * GRID - 1) ** 2 + 5 + 2 * TEXT_INIT_LENGTH, LAYERS * HEADS))
        self.pooler = module(dense=nn.Linear(WIDTH, WIDTH))
        self.itm_score = module(fc=nn.Linear(WIDTH, 2))
        for name in ("text", "image", "vl_text", "vl_image"):
            setattr(self, f"itc_{name}_proj", module(fc=nn.Linear(WIDTH, WIDTH, bias=False)))
        self.mlm_score = module(
            transform=module(dense=nn.Linear(WIDTH, WIDTH), LayerNorm=nn.LayerNorm(WIDTH, eps=1e-12)),
            decoder=nn.Linear(WIDTH, VOCABULARY, bias=False),
            bias=nn.Parameter(torch.zeros(VOCABULARY)),
        )
        self.logit_scale = nn.Parameter(torch.tensor(0.0))
        self.logit_vl_scale = nn.Parameter(torch.tensor(0.0))
        self.vqa_classifier = classifier(WIDTH, ANSWERS)
        self.nlvr2_classifier = classifier(2 * WIDTH, 2)
        self.indices = {}

    def biases(self, text_tokens, image_tokens):
        """[layers][heads, tokens, tokens]"""
        key = (text_tokens, image_tokens)
        if key not in self.indices:
            self.indices[key] = position_index(text_tokens, image_tokens)
        tokens = text_tokens + image_tokens
        rows = self.relative_position_bias_table[self.indices[key].reshape(-1)]
        return rows.reshape(tokens, tokens, LAYERS, HEADS).permute(2, 3, 0, 1)

    def embed_text(self, ids):
        parts = self.text_embeddings
        words = parts.LayerNorm(parts.word_embeddings(ids) + parts.token_type_embeddings.weight[0])
        return words + self.token_type_embeddings.weight[0]

    def embed_image(self, pixels, kind=1, masked=None):
        """`kind` is 2 for the second picture of a statement; the first `masked` patches are hidden behind the mask token."""
        x = self.transformer.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        if masked:
            hidden = torch.arange(x.shape[1])[:, None] < masked
            x = torch.where(hidden, self.transformer.mask_token, x)
        return torch.cat([self.transformer.cls_token.expand(len(x), -1, -1), x], dim=1) + self.token_type_embeddings.weight[kind]

    def unimodal(self, x, expert, mask=None, branch=False):
        tokens = x.shape[1]
        biases = self.biases(tokens, 0) if expert == "text" else self.biases(0, tokens)
        if mask is not None and not bool(mask.all()):
            biases = biases[:, None] + hidden_keys(mask, tokens)
        blocks, side = self.transformer.blocks, None
        for layer, block in enumerate(blocks):
            if layer == FIRST_VL and branch:
                side = x
                for vl, vl_block in enumerate(blocks[FIRST_VL:], FIRST_VL):
                    side = vl_block(side, biases[vl], [("vl", tokens)])
            x = block(x, biases[layer], [(expert, tokens)])
        return self.transformer.norm(x), side

    def fused(self, ids, pixels, mask=None, kind=1):
        text, image = self.embed_text(ids), self.embed_image(pixels, kind)
        x = torch.cat([text, image], dim=1)
        biases = self.biases(ids.shape[1], IMAGE_TOKENS)
        if mask is not None and not bool(mask.all()):
            biases = biases[:, None] + hidden_keys(mask, x.shape[1])
        for layer, block in enumerate(self.transformer.blocks):
            parts = [("vl", x.shape[1])] if layer >= FIRST_VL else [("text", ids.shape[1]), ("imag", IMAGE_TOKENS)]
            x = block(x, biases[layer], parts)
        return self.transformer.norm(x)

    def embedding(self, rows, name):
        return F.normalize(getattr(self, f"itc_{name}_proj").fc(rows[:, 0]), dim=-1)

    def pooled(self, rows):
        return torch.tanh(self.pooler.dense(rows))

    def match(self, rows):
        return self.itm_score.fc(self.pooled(rows))

    def words(self, rows):
        transform = self.mlm_score.transform
        return self.mlm_score.decoder(transform.LayerNorm(F.gelu(transform.dense(rows)))) + self.mlm_score.bias


def hidden_keys(mask, tokens):
    """[pairs, 1, 1, tokens]: what is added to the scores of keys that are padding; `mask` covers the first tokens."""
    hidden = torch.zeros(len(mask), 1, 1, tokens)
    hidden[:, 0, 0, : mask.shape[1]].masked_fill_(mask == 0, float("-inf"))
    return hidden


def position_index(text_tokens, image_tokens):
    """Row of the bias table for each (query, key) of a sequence of text, then image."""
    offsets = (2 * GRID - 1) ** 2
    tokens = text_tokens + image_tokens
    index = torch.empty(tokens, tokens, dtype=torch.long)
    index[:text_tokens, text_tokens:] = offsets + 3
    index[text_tokens:, :text_tokens] = offsets + 4
    if text_tokens:
        at = torch.arange(text_tokens)
        part = offsets + 5 + (at[None, :] - at[:, None]) + TEXT_INIT_LENGTH - 2
        end = offsets + 5 + 2 * TEXT_INIT_LENGTH
        part[0, :], part[:, 0], part[0, 0] = end - 3, end - 2, end - 1
        index[:text_tokens, :text_tokens] = part
    if image_tokens:
        y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
        y, x = y.reshape(-1), x.reshape(-1)
        part = index[text_tokens:, text_tokens:]
        part[1:, 1:] = (y[:, None] - y[None, :] + GRID - 1) * (2 * GRID - 1) + x[:, None] - x[None, :] + GRID - 1
        part[0, :], part[:, 0], part[0, 0] = offsets, offsets + 1, offsets + 2
    return index


def load(folder):
    """The model with the weights of `model.safetensors`; what the file has beyond the model (other heads) is left out."""
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r", offset=8 + header_bytes)
    model = Model()
    own = model.state_dict()
    state = {}
    for name in own:
        begin, end = header[name]["data_offsets"]
        state[name] = torch.from_numpy(numpy.array(data[begin:end])).view(torch.float32).reshape(header[name]["shape"])
    model.load_state_dict(state)
    return model


def pixels_of(path, count):
    raw = numpy.fromfile(path, dtype=numpy.uint8, count=count * 224 * 224 * 3).reshape(count, 224, 224, 3)
    return ((torch.from_numpy(raw).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5).contiguous()


def texts_of(texts, length):
    """Ids [texts, length], padded with zeros, and the mask."""
    ids, mask = torch.zeros(len(texts), length, dtype=torch.long), torch.zeros(len(texts), length, dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return ids, mask


def main():
    torch.set_num_threads(int(sys.argv[1]))
    model = load(sys.argv[2])
    optimiser = None
    cached = {}
    for line in sys.stdin:
        request = json.loads(line)
        what = request["what"]
        if what == "version":
            print(json.dumps({"version": torch.__version__}), flush=True)
            continue
        if line not in cached:
            pixels = pixels_of(request["pictures"], request["images"]) if "pictures" in request else None
            cached[line] = (pixels, *(texts_of(request["texts"], request["length"]) if "texts" in request else (None, None)))
        pixels, ids, mask = cached[line]
        if what == "train":
            if optimiser is None:
                optimiser = torch_stages.optimiser_of(model, request)
            loss = torch_stages.step(model, optimiser, request, ids, pixels)
            print(json.dumps({"answer": [loss]}), flush=True)
            continue
        with torch.inference_mode():
            if what == "image":
                result = model.embedding(model.unimodal(model.embed_image(pixels), "imag")[0], "image")
            elif what == "text":
                result = model.embedding(model.unimodal(model.embed_text(ids), "text", mask)[0], "text")
            else:
                result = model.match(model.fused(ids, pixels, mask)[:, 0])
        print(json.dumps({"answer": result.reshape(-1).tolist()}), flush=True)


if __name__ == "__main__":
    main()
