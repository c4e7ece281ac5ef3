"""The losses of VLMo's training steps, on a batch and on draws that are given."""
import numpy
import torch
from torch.nn import functional as F

# Weights of the losses in their sum.
WEIGHTS = {"itc": 1, "irtr": 1, "itm": 1, "mlm": 0.25, "textmlm": 1, "vqa": 1, "nlvr2": 1}
IGNORED = -100


class Draws:
    """What chance decides in one step.

    keep: name of a pass -> [N][3][B] of 0 and 1, whether attention, text expert and image expert of a sequence are kept. A pass that has no
    entry drops nothing. `highest` is the probability of dropping in the last block.
    seeds: name of a pass -> seed of the dropout of text embeddings, whose probability is `dropout`.
    """

    def __init__(self, keep=None, highest=0.0, seeds=None, dropout=0.0):
        self.keep, self.highest, self.seeds, self.dropout = keep or {}, highest, seeds or {}, dropout

    def scales(self, name, layers, sequences, first=0, parts=3):
        """[layers - first][parts][sequences]: 0 for what is dropped, 1 / probability of keeping for the rest."""
        if name not in self.keep:
            return torch.ones(layers - first, parts, sequences)
        keep = 1 - numpy.linspace(0, self.highest, layers)[first:, None, None]
        return torch.from_numpy(self.keep[name] / keep)

    def text_dropout(self, name, lengths, length, width):
        """[B, L, D]: what multiplies the embeddings of texts, whose pieces are counted through without padding."""
        if name not in self.seeds:
            return 1
        factors = numpy.ones((len(lengths), length, width), numpy.float32)
        begins = numpy.cumsum(lengths) - lengths
        for text, (begin, count) in enumerate(zip(begins, lengths)):
            kept = uniform(self.seeds[name], numpy.arange(begin, begin + count), width) >= numpy.float32(self.dropout)
            factors[text, :count] = kept / (1 - numpy.float32(self.dropout))
        return torch.from_numpy(factors)


def uniform(seed, rows, columns):
    """[rows, columns] numbers in [0, 1) of the counter that the library's text dropout uses: splitmix64's finaliser, 24 bits."""

    def mix(x):
        x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return x ^ (x >> numpy.uint64(31))

    row = mix(numpy.uint64(seed) + numpy.uint64(0x9E3779B97F4A7C15) * (rows.astype(numpy.uint64) + numpy.uint64(1)))
    bits = mix(row[:, None] + numpy.arange(columns, dtype=numpy.uint64)) >> numpy.uint64(40)
    return bits.astype(numpy.float32) * numpy.float32(2**-24)


class Batch:
    """text_ids [B, L] padded with zeros, text_masks [B, L], pixels [B, 3, S, S] and, for statements, pixels_1 of the second pictures."""

    def __init__(self, text_ids, text_masks, pixels=None, pixels_1=None, vqa_targets=None, truth=None):
        self.text_ids, self.visible = text_ids, text_masks.bool()
        self.lengths = text_masks.sum(1).numpy()
        self.pixels, self.pixels_1, self.vqa_targets, self.truth = pixels, pixels_1, vqa_targets, truth


class Step:
    """The passes of one training step, and the losses on them."""

    def __init__(self, model, batch, draws=None, vl_branch=True):
        self.model, self.batch, self.draws, self.vl_branch = model, batch, draws or Draws(), vl_branch
        self.layers = model.arch["depth"]

    def texts(self, name, ids, lengths):
        """Embedded texts of the pass `name`."""
        length, width = ids.shape[1], self.model.arch["embed_dim"]
        return self.model.embed_texts(ids, self.draws.text_dropout(name, lengths, length, width))

    def contrastive(self, branch):
        """(texts, pictures), each as (states, states of the VL branch)."""
        model, batch, pairs = self.model, self.batch, len(self.batch.text_ids)
        scales = self.draws.scales("contrastive", self.layers, 2 * pairs)
        texts = self.texts("contrastive", batch.text_ids, batch.lengths)
        images = model.embed_images(batch.pixels)
        seen = torch.ones(images.shape[:2], dtype=torch.bool)
        of_texts = of_images = None
        if branch:
            all_scales = self.draws.scales("contrastive_branch", self.layers, 2 * pairs, model.first_vl, 2)
            of_texts, of_images = all_scales[..., :pairs], all_scales[..., pairs:]
        return (
            model.alone(texts, batch.visible, "text", scales[..., :pairs], of_texts),
            model.alone(images, seen, "imag", scales[..., pairs:], of_images),
        )

    def similarities(self, objective):
        """Scaled similarities [pictures, texts] of the plain embeddings and, for `itc`, of those of the VL branch."""
        model = self.model
        branch = objective == "itc" and self.vl_branch
        (texts, texts_vl), (images, images_vl) = self.contrastive(branch)
        plain = model.embedding(images, "itc_image_proj") @ model.embedding(texts, "itc_text_proj").t()
        results = [model.logit_scale.exp() * plain]
        if branch:
            vl = model.embedding(images_vl, "itc_vl_image_proj") @ model.embedding(texts_vl, "itc_vl_text_proj").t()
            results.append(model.logit_vl_scale.exp() * vl)
        return results

    @staticmethod
    def contrastive_loss(similarities):
        """Symmetric cross-entropy, the own pair being right; the mean of the plain loss and that of the VL branch."""
        target = torch.arange(len(similarities[0]))
        losses = [(F.cross_entropy(each, target) + F.cross_entropy(each.t(), target)) / 2 for each in similarities]
        return sum(losses) / len(losses)

    def fused(self, matched=None, masked=None):
        """States of fused sequences of one pass: pairs with these (texts, pictures), then masked texts with their own pictures."""
        batch = self.batch
        texts, pictures = matched if matched else ([], [])
        own = list(range(len(batch.text_ids)))
        parts = [batch.text_ids[texts]] + ([masked] if masked is not None else [])
        rows = list(texts) + (own if masked is not None else [])
        embedded = self.texts("fused", torch.cat(parts), batch.lengths[rows])
        images = self.model.embed_images(batch.pixels[list(pictures) + (own if masked is not None else [])])
        scales = self.draws.scales("fused", self.layers, len(rows))
        return self.model.fused(embedded, batch.visible[rows], images, scales)

    def itm_and_mlm(self, negatives=None, masked=None):
        """Losses of matching (own pairs, wrong pictures, wrong texts) and of masked words, from one pass."""
        own = list(range(len(self.batch.text_ids)))
        matched = None
        if negatives is not None:
            image, text = ([int(index) for index in each] for each in negatives)
            matched = (own + own + text, own + image + own)
        ids, labels = masked if masked is not None else (None, None)
        states = self.fused(matched, ids)
        losses = {}
        if matched:
            right = torch.tensor([1] * len(own) + [0] * 2 * len(own))
            losses["itm"] = F.cross_entropy(self.model.itm_score.fc(self.model.pooled(states[: len(right)])), right)
        if masked is not None:
            losses["mlm"] = self.masked_words(states[-len(own) :, : labels.shape[1]], labels)
        return losses

    def masked_words(self, states, labels):
        logits = self.model.words(states)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORED)

    def textmlm(self, masked):
        """Masked words of texts alone."""
        ids, labels = masked
        scales = self.draws.scales("text", self.layers, len(ids))
        states, _ = self.model.alone(self.texts("text", ids, self.batch.lengths), self.batch.visible, "text", scales)
        return self.masked_words(states, labels)

    def answers(self):
        """Logits of answers [B, answers]."""
        own = list(range(len(self.batch.text_ids)))
        return self.model.vqa_classifier(self.model.pooled(self.fused((own, own))))

    def vqa(self):
        """Binary cross-entropy with soft targets: its mean, times the number of answers."""
        targets = self.batch.vqa_targets
        return F.binary_cross_entropy_with_logits(self.answers(), targets) * targets.shape[1]

    def judgements(self):
        """Logits of statements [B, 2], from two fused passes. The sequences of one statement follow each other."""
        batch, model = self.batch, self.model
        count = len(batch.text_ids)
        rows = [row for row in range(count) for _ in range(2)]
        texts = self.texts("statements", batch.text_ids[rows], batch.lengths[rows])
        both = torch.stack([model.embed_images(batch.pixels, 1), model.embed_images(batch.pixels_1, 2)], dim=1).flatten(0, 1)
        states = model.fused(texts, batch.visible[rows], both, self.draws.scales("statements", self.layers, 2 * count))
        return model.nlvr2_classifier(model.pooled(states).reshape(count, -1))

    def nlvr2(self):
        return F.cross_entropy(self.judgements(), self.batch.truth)
