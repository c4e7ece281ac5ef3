"""VLMo in plain PyTorch, with the parameter names of the original checkpoints.

It is written from the paper (arXiv 2111.02358) and the facts of the original, apart from the library's own graph, and pads texts and masks
their padding, as the original does. `check_original.py` holds it to numbers that were recorded from the original.

Shapes: B sequences, L text tokens, I image tokens (CLS and patches), T = L + I, D width, H heads, N blocks.
"""
import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Attention that all experts of a block share. Queries and values have a bias, keys have none."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x, visible, position_bias):
        """x [B, T, D]; visible [B, T], whether a token is none of the padding; position_bias [H, T, T] or None."""
        batch, tokens, width = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5
        if position_bias is not None:
            scores = scores + position_bias
        scores = scores.masked_fill(~visible[:, None, None, :], float("-inf"))
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A block of the mixture of modality experts: one attention, then the feed-forward expert of each token's modality."""

    def __init__(self, arch, layer):
        super().__init__()
        width = arch["embed_dim"]
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, arch["num_heads"])
        for name in ("text", "imag", "vl") if layer >= arch["vlffn_start_layer_index"] else ("text", "imag"):
            setattr(self, f"norm2_{name}", nn.LayerNorm(width, eps=1e-6))
            setattr(self, f"mlp_{name}", Mlp(width, arch["mlp_ratio"] * width))
        self.gamma_1 = self.gamma_2 = 1
        if arch["layer_scale_init_values"] is not None:
            self.gamma_1 = nn.Parameter(torch.full([width], arch["layer_scale_init_values"]))
            self.gamma_2 = nn.Parameter(torch.full([width], arch["layer_scale_init_values"]))

    def forward(self, x, visible, position_bias, parts, scales):
        """`parts`: (expert, tokens) in their order; `scales` [1 + parts][B]: drop-path scales of attention and of each part's expert."""
        scales = [scale[:, None, None] for scale in scales]
        x = x + scales[0] * self.gamma_1 * self.attn(self.norm1(x), visible, position_bias)
        results = []
        for (name, _), scale, part in zip(parts, scales[1:], x.split([tokens for _, tokens in parts], dim=1)):
            expert, norm = getattr(self, f"mlp_{name}"), getattr(self, f"norm2_{name}")
            results.append(part + scale * self.gamma_2 * expert(norm(part)))
        return torch.cat(results, dim=1)


def module(**parts):
    """A module of named parts, so that parameters have the original's names."""
    result = nn.Module()
    for name, part in parts.items():
        setattr(result, name, part)
    return result


def classifier(inputs, width, classes):
    return nn.Sequential(nn.Linear(inputs, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, classes))


class Vlmo(nn.Module):
    """`arch` has the argument names of the original code, as `config.json` of a reference case."""

    def __init__(self, arch):
        super().__init__()
        self.arch = arch
        width, layers, length, words = arch["embed_dim"], arch["depth"], arch["max_text_len"], arch["vocab_size"]
        self.first_vl = arch["vlffn_start_layer_index"]
        self.grid = arch["image_size"] // arch["patch_size"]
        self.relative = arch["need_relative_position_embed"]
        self.text_embeddings = module(
            word_embeddings=nn.Embedding(words, width, padding_idx=0),
            position_embeddings=nn.Embedding(length, width),
            token_type_embeddings=nn.Embedding(2, width),
            LayerNorm=nn.LayerNorm(width, eps=1e-12),
        )
        self.token_type_embeddings = nn.Embedding(3, width)
        self.transformer = module(
            cls_token=nn.Parameter(torch.zeros(1, 1, width)),
            patch_embed=module(proj=nn.Conv2d(3, width, arch["patch_size"], arch["patch_size"])),
            blocks=nn.ModuleList(Block(arch, layer) for layer in range(layers)),
            norm=nn.LayerNorm(width, eps=1e-6),
        )
        if self.relative:
            rows = (2 * self.grid - 1) ** 2 + 3 + 2 * arch["max_text_len_of_initckpt"] + 2
            self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, arch["num_heads"] * layers))
            self.index = self.position_index()
        else:
            self.transformer.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, width))
        self.pooler = module(dense=nn.Linear(width, width))
        self.itm_score = module(fc=nn.Linear(width, 2))
        self.mlm_score = module(
            transform=module(dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps=1e-12)),
            decoder=nn.Linear(width, words, bias=False),
            bias=nn.Parameter(torch.zeros(words)),
        )
        for name in ("itc_text_proj", "itc_image_proj", "itc_vl_text_proj", "itc_vl_image_proj"):
            setattr(self, name, module(fc=nn.Linear(width, width, bias=False)))
        self.logit_scale = nn.Parameter(torch.tensor(0.0))
        self.logit_vl_scale = nn.Parameter(torch.tensor(0.0))
        self.vqa_classifier = classifier(width, width, arch["vqav2_label_size"])
        self.nlvr2_classifier = classifier(2 * width, width, 2)

    def position_index(self):
        """[T, T]: the row of the bias table for each query and key, of a text of full length and then a picture.

        Rows of the table: offsets of patches; picture's CLS to patch, patch to CLS, CLS to CLS; text to picture, picture to text; offsets in
        the text and, as its last three, CLS to piece, piece to CLS, CLS to CLS.
        """
        grid, length, longest = self.grid, self.arch["max_text_len"], self.arch["max_text_len_of_initckpt"]
        image_rows = (2 * grid - 1) ** 2 + 3
        all_rows = image_rows + 2 + 2 * longest
        y, x = (place.flatten() for place in torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij"))
        image = torch.zeros(1 + grid**2, 1 + grid**2, dtype=torch.long)
        image[1:, 1:] = (y[:, None] - y + grid - 1) * (2 * grid - 1) + (x[:, None] - x + grid - 1)
        image[0, :], image[:, 0] = image_rows - 3, image_rows - 2
        image[0, 0] = image_rows - 1
        place = torch.arange(length - 1)
        text = torch.zeros(length, length, dtype=torch.long)
        text[1:, 1:] = place[None, :] - place[:, None] - (2 - longest) + image_rows + 2
        text[0, :], text[:, 0] = all_rows - 3, all_rows - 2
        text[0, 0] = all_rows - 1
        text_to_image = torch.full((length, 1 + grid**2), image_rows)
        image_to_text = torch.full((1 + grid**2, length), image_rows + 1)
        return torch.cat([torch.cat([text, text_to_image], 1), torch.cat([image_to_text, image], 1)])

    def position_biases(self, tokens):
        """[N][H, tokens, tokens] for a slice of the text-and-picture sequence; None for each block with absolute positions."""
        layers, heads = self.arch["depth"], self.arch["num_heads"]
        if not self.relative:
            return [None] * layers
        bias = self.relative_position_bias_table[self.index[tokens, tokens]]
        return bias.permute(2, 0, 1).split(heads)

    def embed_texts(self, ids, dropout=1):
        """ids [B, L] -> [B, L, D]; `dropout` multiplies what the LayerNorm gives."""
        parts = self.text_embeddings
        x = parts.word_embeddings(ids) + parts.token_type_embeddings.weight[0]
        if not self.relative:
            x = x + parts.position_embeddings.weight[: ids.shape[1]]
        return parts.LayerNorm(x) * dropout + self.token_type_embeddings.weight[0]

    def embed_images(self, pixels, kind=1):
        """pixels [B, 3, S, S], normalised -> [B, I, D]; `kind` is 2 for the second picture of a statement."""
        patches = self.transformer.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.transformer.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        if not self.relative:
            x = x + self.transformer.pos_embed
        return x + self.token_type_embeddings.weight[kind]

    def alone(self, x, visible, expert, scales, branch_scales=None):
        """One modality through its own expert in every block: (last states after the norm, the same of the VL branch or None).

        The VL branch leaves before the first VL block and goes through the VL expert from there. It is computed where `branch_scales` are
        given. Scales: [N][3][B], for attention, text expert and image expert; those of the branch [N - first VL][2][B].
        """
        length = self.arch["max_text_len"]
        tokens = x.shape[1]
        biases = self.position_biases(slice(0, tokens) if expert == "text" else slice(length, length + tokens))
        branch = None
        for layer, block in enumerate(self.transformer.blocks):
            if layer == self.first_vl:
                branch = x
            own = [scales[layer][0], scales[layer][1 if expert == "text" else 2]]
            x = block(x, visible, biases[layer], [(expert, tokens)], own)
        norm = self.transformer.norm
        if branch_scales is None:
            return norm(x), None
        for layer, own in enumerate(branch_scales, self.first_vl):
            branch = self.transformer.blocks[layer](branch, visible, biases[layer], [("vl", tokens)], own)
        return norm(x), norm(branch)

    def fused(self, texts, visible_texts, images, scales):
        """Embedded texts and pictures as one sequence: text and image expert below the first VL block, the VL expert from there."""
        text_tokens, image_tokens = texts.shape[1], images.shape[1]
        x = torch.cat([texts, images], dim=1)
        visible = F.pad(visible_texts, (0, image_tokens), value=True)
        if text_tokens != self.arch["max_text_len"]:
            raise ValueError(f"expected texts padded to {self.arch['max_text_len']}, got {text_tokens}")
        biases = self.position_biases(slice(None))
        for layer, block in enumerate(self.transformer.blocks):
            if layer < self.first_vl:
                x = block(x, visible, biases[layer], [("text", text_tokens), ("imag", image_tokens)], scales[layer])
            else:
                x = block(x, visible, biases[layer], [("vl", text_tokens + image_tokens)], scales[layer][:2])
        return self.transformer.norm(x)

    def embedding(self, states, head):
        """The CLS states as embeddings of length 1, [B, D]."""
        return F.normalize(getattr(self, head).fc(states[:, 0]), dim=-1)

    def pooled(self, states):
        """The pooled text CLS of fused sequences, [B, D]."""
        return torch.tanh(self.pooler.dense(states[:, 0]))

    def words(self, states):
        """Logits of word pieces for each state."""
        transform = self.mlm_score.transform
        return self.mlm_score.decoder(transform.LayerNorm(F.gelu(transform.dense(states)))) + self.mlm_score.bias
