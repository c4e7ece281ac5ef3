"""The peers' model on this processor, small and in float32: `python3 scripts/gpu/test_peer.py`, needs PyTorch, no device."""
import importlib.util
import pathlib
import sys
import unittest
from unittest import mock

import torch

import torch_peer as peer

TEXTS = 3
SMALL = {"WIDTH": 48, "HEADS": 4, "LAYERS": 3, "FIRST_VL": 2, "GRID": 3, "VOCABULARY": 90}


def plain_attention(q, k, v, attn_mask):
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + attn_mask).softmax(-1) @ v


def bench_peer():
    """The model as it is trained, bench/peers/torch_peer.py, which the library's answers are held to."""
    path = pathlib.Path(__file__).parents[2] / "bench" / "peers" / "torch_peer.py"
    # Behind this folder, whose own torch_peer has the same name: the modules beside the other are found too.
    sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location("bench_peer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in SMALL.items():
        setattr(module, name, value)
    module.IMAGE_TOKENS = 1 + SMALL["GRID"] ** 2
    return module


def take(ours, theirs):
    ours.load_state_dict(theirs.state_dict())


def take_embeddings(model, trained):
    for embedding in model.embeddings:
        if isinstance(embedding, peer.TextEmbedding):
            parts = trained.text_embeddings
            take(embedding.words, parts.word_embeddings)
            take(embedding.norm, parts.LayerNorm)
            embedding.kind.data, embedding.modality.data = parts.token_type_embeddings.weight[0], trained.token_type_embeddings.weight[0]
        else:
            take(embedding.patch, trained.transformer.patch_embed.proj)
            embedding.cls.data, embedding.modality.data = trained.transformer.cls_token, trained.token_type_embeddings.weight[1]


def take_weights(model, trained, kind):
    """Gives `model` the weights of `trained`, position biases expanded."""
    take_embeddings(model, trained)
    biases = trained.biases(0 if kind == "images" else peer.TEXT_TOKENS, 0 if kind == "texts" else peer.TOKENS)
    for layer, (block, theirs) in enumerate(zip(model.blocks, trained.transformer.blocks)):
        take(block.norm, theirs.norm1)
        take(block.proj, theirs.attn.proj)
        block.qkv.weight.data = theirs.attn.qkv.weight
        block.qkv.bias.data = torch.cat([theirs.attn.q_bias, torch.zeros(peer.WIDTH), theirs.attn.v_bias])
        block.gamma_1.data, block.gamma_2.data = theirs.gamma_1, theirs.gamma_2
        block.bias = peer.aligned(biases[layer][None])
        names = {"texts": ["text"], "images": ["imag"], "pairs": ["vl"] if layer >= peer.FIRST_VL else ["text", "imag"]}[kind]
        for expert, name in zip(block.experts, names, strict=True):
            take(expert.norm, getattr(theirs, f"norm2_{name}"))
            take(expert.fc1, getattr(theirs, f"mlp_{name}").fc1)
            take(expert.fc2, getattr(theirs, f"mlp_{name}").fc2)
    take(model.norm, trained.transformer.norm)
    if kind == "pairs":
        take(model.head[0], trained.pooler.dense)
        take(model.head[2], trained.itm_score.fc)
    else:
        take(model.head, getattr(trained, f"itc_{kind[:-1]}_proj").fc)


class Peer(unittest.TestCase):
    def setUp(self):
        small = SMALL | {"HIDDEN": 4 * SMALL["WIDTH"], "TOKENS": 1 + SMALL["GRID"] ** 2, "DEVICE": "cpu"}
        for name, value in small.items():
            self.enterContext(mock.patch.object(peer, name, value))
        self.enterContext(mock.patch.object(peer.F, "scaled_dot_product_attention", plain_attention, create=True))
        peer.make_encoder.cache_clear()
        torch.manual_seed(3)

    def answers(self, kind):
        """Of both models, on the same weights and inputs."""
        module = bench_peer()
        trained, model, inputs = module.Model(), peer.Encoder(kind), peer.make_inputs(kind, TEXTS)
        for weights in trained.parameters():
            weights.data = 0.3 * torch.randn_like(weights)
        with torch.no_grad():
            take_weights(model, trained, kind)
            if kind == "texts":
                return model, inputs, trained.embedding(trained.unimodal(trained.embed_text(inputs[0]), "text")[0], "text")
            pixels = inputs[-1].permute(0, 3, 1, 2) * (2 / 255) - 1
            if kind == "images":
                return model, inputs, trained.embedding(trained.unimodal(trained.embed_image(pixels), "imag")[0], "image")
            return model, inputs, trained.match(trained.fused(inputs[0], pixels)[:, 0])

    def difference(self, model, inputs, expected):
        with torch.no_grad():
            return float((model(*inputs) - expected).norm() / expected.norm())

    def test_is_the_model_that_is_trained(self):
        for kind in ("texts", "images", "pairs"):
            with self.subTest(kind):
                model, inputs, expected = self.answers(kind)
                self.assertLess(self.difference(model, inputs, expected), 1e-5)
                # A planted error: one bias of one pair of tokens that CLS sees.
                model.blocks[0].bias[0, 1, 0, 2] += 3
                self.assertGreater(self.difference(model, inputs, expected), 1e-4)

    def test_measures_every_kind_in_bfloat16(self):
        for shape in ("texts 2", "images 2", "pairs 2"):
            said = peer.encoder("eager", shape, 2)
            self.assertEqual((said["shape"], said["mode"], len(said["seconds"]), "overlapped" in said), (shape, "eager", 2, False))

    def test_aligned_biases_are_the_same(self):
        bias = torch.randn(1, 2, 10, 10)
        there = peer.aligned(bias)
        self.assertTrue(torch.equal(there, bias))
        self.assertEqual([stride % 16 for stride in there.stride()[:-1]], [0, 0, 0])


if __name__ == "__main__":
    unittest.main()
