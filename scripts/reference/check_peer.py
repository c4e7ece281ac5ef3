"""Holds the losses of the bench's PyTorch (bench/peers/torch_stages.py) to the model of this folder, on a small model.

/usr/bin/python3 scripts/reference/check_peer.py
"""
import os
import sys

import torch

from model import Vlmo
from objectives import IGNORED, Batch, Step

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "peers"))
import torch_peer
import torch_stages

ARCH = {
    "image_size": 224,
    "patch_size": 16,
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 2,
    "mlp_ratio": 4,
    "vlffn_start_layer_index": 2,
    "use_abs_pos_emb": False,
    "need_relative_position_embed": True,
    "layer_scale_init_values": 0.1,
    "max_text_len": 12,
    "max_text_len_of_initckpt": 196,
    "vocab_size": 2000,
    "vqav2_label_size": 20,
}
PAIRS, MASKED, BOUND = 4, 5, 2e-6


def models():
    """The bench's model in a small size, and this folder's with the same parameters."""
    for name, key in (("WIDTH", "embed_dim"), ("HEADS", "num_heads"), ("LAYERS", "depth"), ("FIRST_VL", "vlffn_start_layer_index")):
        setattr(torch_peer, name, ARCH[key])
    torch_peer.VOCABULARY, torch_peer.ANSWERS = ARCH["vocab_size"], ARCH["vqav2_label_size"]
    peer, own = torch_peer.Model(), Vlmo(ARCH)
    for values in peer.parameters():
        values.data.normal_((2.7, 1, 0)[min(values.ndim, 2)], 0.2)
    own.load_state_dict({**own.state_dict(), **peer.state_dict()})
    return peer, own


def masked(ids, count):
    hidden, labels = ids.clone(), torch.full_like(ids, IGNORED)
    hidden[:, 1 : 1 + count], labels[:, 1 : 1 + count] = torch_stages.MASK_ID, ids[:, 1 : 1 + count]
    return hidden, labels


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    peer, own = models()
    ids = torch.randint(200, ARCH["vocab_size"], (PAIRS, ARCH["max_text_len"]))
    pixels = torch.rand(2 * PAIRS, 3, 224, 224) * 2 - 1
    answers, truth = [3, 0, 19, 7], [1, 0, 1, 1]
    targets = torch.zeros(PAIRS, ARCH["vqav2_label_size"])
    targets[range(PAIRS), answers] = 0.9
    step = Step(own, Batch(ids, torch.ones_like(ids), pixels[:PAIRS], None, targets))
    statements = Step(own, Batch(ids, torch.ones_like(ids), pixels[::2], pixels[1::2], None, torch.tensor(truth)))
    other = torch.arange(PAIRS).roll(1)
    fused = step.itm_and_mlm((other, other), masked(ids, torch_stages.MASKED_OF_PAIR))
    expected = {
        "pairs": step.contrastive_loss(step.similarities("itc")) + fused["itm"] + 0.25 * fused["mlm"],
        "text": step.textmlm(masked(ids, MASKED)),
        "retrieval": step.contrastive_loss(step.similarities("irtr")),
        "vqa": step.vqa(),
        "nlvr2": statements.nlvr2(),
    }
    request = {"masked": MASKED, "answers": answers, "score": 0.9, "truth": truth}

    def error_of(stage):
        loss = torch_stages.LOSSES[stage](peer, request, ids, pixels if stage == "nlvr2" else pixels[:PAIRS])
        return abs(loss.item() - expected[stage].item()) / abs(expected[stage].item())

    errors = {stage: error_of(stage) for stage in expected}
    # A planted error: each loss reads this weight.
    peer.transformer.norm.weight.data[3] += 0.5
    planted = {stage: error_of(stage) for stage in expected}
    for stage, loss in expected.items():
        print(f"{stage}: {loss.item():.6f}, off by {errors[stage]:.1e}, with a planted error by {planted[stage]:.1e}")
    sys.exit(0 if all(errors[stage] <= BOUND < planted[stage] for stage in expected) else 1)


if __name__ == "__main__":
    main()
