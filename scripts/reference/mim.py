"""Masked image modelling in PyTorch: loss, gradients and ten AdamW steps that ts/test/train/mim.test.ts holds the library to.

    python3 scripts/reference/mim.py ts/test/train/mim-reference.json

The model is written down here from the papers (BEiT, arXiv 2106.08254, and VLMo, arXiv 2111.02358) and shares no code with the library. It
computes in double precision. Parameters and pictures are made by rules that both sides follow, so the file holds results alone.
"""
import base64
import json
import math
import sys

import torch
from torch.nn import functional as F

SIZES = dict(imageSize=12, patchSize=4, width=8, layers=2, heads=2, hiddenRatio=2, firstVlLayer=1, maxTextLength=4,
             maxTextLengthOfInit=4, vocabularySize=6, answers=2, visualTokens=11)
CONFIGS = {
    "relative": dict(SIZES, positions="relative", layerScale=0.1),
    "absolute": dict(SIZES, positions="absolute", layerScale=None),
}
PICTURES = 3
TYPES = 3
SETTINGS = dict(steps=10, learningRate=4e-3, warmupSteps=3, endLearningRate=1e-5, betas=[0.9, 0.999], eps=1e-8,
                weightDecay=0.05)


def draws(seed, count):
    """Numbers in [0, 1): a hash of the seed and the place, the same in every language."""
    values = []
    for i in range(count):
        mixed = (i * 2654435761 + seed * 40503 + 12345) % 2**32
        mixed = ((mixed ^ (mixed >> 15)) * 2246822519) % 2**32
        mixed = ((mixed ^ (mixed >> 13)) * 3266489917) % 2**32
        values.append((mixed ^ (mixed >> 16)) / 2**32)
    return values


def shapes(config):
    """The parameters that a pass over pictures reads."""
    width, hidden = config["width"], config["width"] * config["hiddenRatio"]
    grid = config["imageSize"] // config["patchSize"]
    named = {
        "token_type_embeddings.weight": (TYPES, width),
        "transformer.cls_token": (1, 1, width),
        "transformer.mask_token": (1, 1, width),
        "transformer.patch_embed.proj.weight": (width, 3, config["patchSize"], config["patchSize"]),
        "transformer.patch_embed.proj.bias": (width,),
    }
    if config["positions"] == "absolute":
        named["transformer.pos_embed"] = (1, 1 + grid**2, width)
    else:
        rows = (2 * grid - 1) ** 2 + 3 + 2 + 2 * config["maxTextLengthOfInit"]
        named["relative_position_bias_table"] = (rows, config["heads"] * config["layers"])
    for layer in range(config["layers"]):
        block = f"transformer.blocks.{layer}"
        for norm in ("norm1", "norm2_imag"):
            named[f"{block}.{norm}.weight"] = named[f"{block}.{norm}.bias"] = (width,)
        named[f"{block}.attn.qkv.weight"] = (3 * width, width)
        named[f"{block}.attn.q_bias"] = named[f"{block}.attn.v_bias"] = (width,)
        for name, out, inputs in (("attn.proj", width, width), ("mlp_imag.fc1", hidden, width),
                                  ("mlp_imag.fc2", width, hidden)):
            named[f"{block}.{name}.weight"], named[f"{block}.{name}.bias"] = (out, inputs), (out,)
        if config["layerScale"] is not None:
            named[f"{block}.gamma_1"] = named[f"{block}.gamma_2"] = (width,)
    named["transformer.norm.weight"] = named["transformer.norm.bias"] = (width,)
    named["mim_score.fc.weight"] = (config["visualTokens"], width)
    named["mim_score.fc.bias"] = (config["visualTokens"],)
    return named


def parameters(config):
    """Every parameter is uniform in +-0.5, in the order of names; gains of normalisations are 1 more."""
    made = {}
    for seed, (name, shape) in enumerate(sorted(shapes(config).items())):
        values = torch.tensor(draws(seed, math.prod(shape)), dtype=torch.float64) - 0.5
        values = values.float().double()
        if "norm" in name and name.endswith(".weight"):
            values = (values + 1).float().double()
        made[name] = values.reshape(shape).requires_grad_()
    return made


def batch(config):
    """Bytes of the pictures [pictures, size, size, 3]; masks and visual tokens [pictures, patches]."""
    patches = (config["imageSize"] // config["patchSize"]) ** 2
    count = PICTURES * 3 * config["imageSize"] ** 2
    pixels = torch.tensor([math.floor(256 * value) for value in draws(1001, count)])
    masks = torch.tensor([1 if value < 0.4 else 0 for value in draws(1002, PICTURES * patches)])
    tokens = torch.tensor([math.floor(config["visualTokens"] * value) for value in draws(1003, PICTURES * patches)])
    size = config["imageSize"]
    return pixels.reshape(PICTURES, size, size, 3), masks.reshape(PICTURES, patches), tokens.reshape(PICTURES, patches)


def position_index(grid):
    """Row of BEiT's table for each query and key: offsets of patches, then CLS to patch, patch to CLS, CLS to CLS."""
    rows = (2 * grid - 1) ** 2
    index = torch.zeros(1 + grid**2, 1 + grid**2, dtype=torch.long)
    for query in range(grid**2):
        for key in range(grid**2):
            down = query // grid - key // grid + grid - 1
            right = query % grid - key % grid + grid - 1
            index[1 + query, 1 + key] = down * (2 * grid - 1) + right
    index[0, :], index[:, 0] = rows, rows + 1
    index[0, 0] = rows + 2
    return index


def loss_of(config, p, pixels, masks, tokens):
    """Cross-entropy of the visual tokens of masked patches."""
    width, heads, patch = config["width"], config["heads"], config["patchSize"]
    grid = config["imageSize"] // patch
    eps = 1e-6

    def linear(x, name):
        return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def norm(x, name):
        return F.layer_norm(x, (width,), p[f"{name}.weight"], p[f"{name}.bias"], eps)

    picture = (pixels.double() / 255 - 0.5) / 0.5
    name = "transformer.patch_embed.proj"
    projected = F.conv2d(picture.permute(0, 3, 1, 2), p[f"{name}.weight"], p[f"{name}.bias"], stride=patch)
    projected = projected.flatten(2).transpose(1, 2)
    masked = masks.bool().unsqueeze(-1)
    embedded = torch.where(masked, p["transformer.mask_token"].expand_as(projected), projected)
    x = torch.cat([p["transformer.cls_token"].expand(len(pixels), 1, width), embedded], 1)
    if config["positions"] == "absolute":
        x = x + p["transformer.pos_embed"]
    x = x + p["token_type_embeddings.weight"][1]

    for layer in range(config["layers"]):
        block = f"transformer.blocks.{layer}"
        gamma = [p[f"{block}.gamma_{i}"] if config["layerScale"] is not None else 1 for i in (1, 2)]
        bias = torch.cat([p[f"{block}.attn.q_bias"], torch.zeros(width, dtype=torch.float64), p[f"{block}.attn.v_bias"]])
        qkv = F.linear(norm(x, f"{block}.norm1"), p[f"{block}.attn.qkv.weight"], bias)
        q, k, v = qkv.reshape(len(pixels), 1 + grid**2, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
        if config["positions"] == "relative":
            table = p["relative_position_bias_table"][:, layer * heads : (layer + 1) * heads]
            scores = scores + table[position_index(grid)].permute(2, 0, 1)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        x = x + gamma[0] * linear(mixed, f"{block}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"{block}.norm2_imag"), f"{block}.mlp_imag.fc1"))
        x = x + gamma[1] * linear(hidden, f"{block}.mlp_imag.fc2")
    rows = norm(x, "transformer.norm")[:, 1:][masks.bool()]
    return F.cross_entropy(linear(rows, "mim_score.fc"), tokens[masks.bool()])


def decays(name):
    """VLMo's rule: substrings of names that weight decay leaves alone."""
    return not any(part in name for part in ("bias", "LayerNorm.weight", "norm.weight", "norm1.weight", "norm2.weight"))


def rate_at(step):
    """Linear warm-up from 0, then half a cosine wave."""
    highest, warm, end = SETTINGS["learningRate"], SETTINGS["warmupSteps"], SETTINGS["endLearningRate"]
    if step < warm:
        return highest * step / warm
    progress = (step - warm) / (SETTINGS["steps"] - warm)
    return end + (highest - end) * 0.5 * (1 + math.cos(math.pi * progress))


def train(config, p, data):
    """Steps of AdamW with bias correction, eps beside the uncorrected root, and decay after the step."""
    (beta1, beta2), eps, decay = SETTINGS["betas"], SETTINGS["eps"], SETTINGS["weightDecay"]
    first = {name: torch.zeros_like(value) for name, value in p.items()}
    second = {name: torch.zeros_like(value) for name, value in p.items()}
    losses, rates = [], []
    for step in range(SETTINGS["steps"]):
        loss = loss_of(config, p, *data)
        gradients = torch.autograd.grad(loss, list(p.values()))
        rate = rate_at(step)
        losses.append(loss.item())
        rates.append(rate)
        with torch.no_grad():
            for (name, value), gradient in zip(p.items(), gradients):
                first[name].mul_(beta1).add_((1 - beta1) * gradient)
                second[name].mul_(beta2).add_((1 - beta2) * gradient**2)
                size = rate * math.sqrt(1 - beta2 ** (step + 1)) / (1 - beta1 ** (step + 1))
                value.sub_(size * first[name] / (second[name].sqrt() + eps))
                if decays(name):
                    value.sub_(rate * decay * value)
    return losses, rates


def packed(tensors):
    """Float32 values in base64 by name."""
    return {name: base64.b64encode(value.detach().float().contiguous().numpy().tobytes()).decode()
            for name, value in tensors.items()}


def case(config):
    p, data = parameters(config), batch(config)
    loss = loss_of(config, p, *data)
    gradients = dict(zip(p, torch.autograd.grad(loss, list(p.values()))))
    losses, rates = train(config, p, data)
    return dict(config=config, masked=int(data[1].sum()), loss=loss.item(), gradients=packed(gradients), losses=losses,
                rates=rates, final=packed(p))


def main():
    with open(sys.argv[1], "w") as file:
        cases = {name: case(config) for name, config in CONFIGS.items()}
        json.dump(dict(settings=SETTINGS, pictures=PICTURES, cases=cases), file, indent=1)
        file.write("\n")


main()
