"""Training steps of VLMo's stages for torch_peer.py: losses on its model, and AdamW.

A request names its `stage`. Where chance decides (masks, hard negatives), any choice is as much work: the first pieces or patches are
masked, as many as the library masks, and the wrong pair is the next one.
"""
import torch
from torch import nn
from torch.nn import functional as F

MASK_ID = 103
# Tokens that are predicted of each text of a pair.
MASKED_OF_PAIR = 2
# What learns from texts alone.
TEXT_PARAMETERS = (
    "text_embeddings",
    "token_type_embeddings",
    "mlp_text",
    "norm2_text",
    "mlm_score",
    "relative_position_bias_table",
    "transformer.norm",
)


def optimiser_of(model, request):
    """AdamW on the parameters of a stage; the others are frozen."""
    if request["stage"] == "image":
        width = model.transformer.cls_token.shape[-1]
        model.transformer.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        model.mim_score = nn.Linear(width, request["visualTokens"])
    if request["stage"] == "text":
        for name, values in model.named_parameters():
            values.requires_grad_(any(part in name for part in TEXT_PARAMETERS))
    trained = [values for values in model.parameters() if values.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-5, betas=(0.9, 0.98), weight_decay=0.01)


def step(model, optimiser, request, ids, pixels):
    """One optimiser step; the loss before it."""
    optimiser.zero_grad(set_to_none=True)
    loss = LOSSES[request["stage"]](model, request, ids, pixels)
    loss.backward()
    nn.utils.clip_grad_norm_([values for group in optimiser.param_groups for values in group["params"]], 1.0)
    optimiser.step()
    return float(loss)


def contrastive(model, texts, images, prefix, scale):
    """Symmetric cross-entropy of the similarities of states of texts and pictures."""
    target = torch.arange(len(texts))
    similarity = scale.exp() * model.embedding(images, prefix + "image") @ model.embedding(texts, prefix + "text").t()
    return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.t(), target)) / 2


def masked(ids, count):
    """Texts whose first `count` pieces after CLS are masked, and what they were."""
    hidden = ids.clone()
    hidden[:, 1 : 1 + count] = MASK_ID
    return hidden, ids[:, 1 : 1 + count].reshape(-1)


def masked_words(model, states, labels, count):
    return F.cross_entropy(model.words(states[:, 1 : 1 + count].flatten(0, 1)), labels)


def pairs(model, request, ids, pixels):
    """ITC with its VL branch, ITM on three times the pairs, MLM."""
    count, norm = len(ids), model.transformer.norm
    text, text_side = model.unimodal(model.embed_text(ids), "text", branch=True)
    image, image_side = model.unimodal(model.embed_image(pixels), "imag", branch=True)
    plain = contrastive(model, text, image, "", model.logit_scale)
    itc = (plain + contrastive(model, norm(text_side), norm(image_side), "vl_", model.logit_vl_scale)) / 2
    other = torch.arange(count).roll(1)
    hidden, words = masked(ids, MASKED_OF_PAIR)
    states = model.fused(torch.cat([ids, ids, ids[other], hidden]), torch.cat([pixels, pixels[other], pixels, pixels]))
    labels = torch.cat([torch.ones(count), torch.zeros(2 * count)]).long()
    itm = F.cross_entropy(model.match(states[: 3 * count, 0]), labels)
    return itc + itm + 0.25 * masked_words(model, states[3 * count :], words, MASKED_OF_PAIR)


def text(model, request, ids, pixels):
    hidden, words = masked(ids, request["masked"])
    return masked_words(model, model.unimodal(model.embed_text(hidden), "text")[0], words, request["masked"])


def image(model, request, ids, pixels):
    count = request["masked"]
    states, _ = model.unimodal(model.embed_image(pixels, masked=count), "imag")
    labels = torch.arange(len(pixels) * count) % request["visualTokens"]
    return F.cross_entropy(model.mim_score(states[:, 1 : 1 + count].flatten(0, 1)), labels)


def retrieval(model, request, ids, pixels):
    texts, images = model.unimodal(model.embed_text(ids), "text")[0], model.unimodal(model.embed_image(pixels), "imag")[0]
    return contrastive(model, texts, images, "", model.logit_scale)


def vqa(model, request, ids, pixels):
    """Each question has one right answer, of this score."""
    logits = model.vqa_classifier(model.pooled(model.fused(ids, pixels)[:, 0]))
    targets = torch.zeros_like(logits)
    for row, answer in enumerate(request["answers"]):
        targets[row, answer] = request["score"]
    return F.binary_cross_entropy_with_logits(logits, targets) * logits.shape[1]


def nlvr2(model, request, ids, pixels):
    first, second = (
        model.pooled(model.fused(ids, pixels[kind - 1 :: 2], kind=kind)[:, 0]) for kind in (1, 2)
    )
    return F.cross_entropy(model.nlvr2_classifier(torch.cat([first, second], 1)), torch.tensor(request["truth"]))


LOSSES = {"pairs": pairs, "text": text, "image": image, "retrieval": retrieval, "vqa": vqa, "nlvr2": nlvr2}
