"""Records the reference cases of training stages (ts/test/train/reference): losses, gradients and ten optimiser steps.

/usr/bin/python3 scripts/reference/record.py            writes the files
/usr/bin/python3 scripts/reference/record.py --check    ends with 1 where they hold other numbers

All that chance decides is drawn here, by the original's rules, and written beside the results, so that a test can give it to the trainer.
PyTorch computes in double precision and the results are rounded once, so that their own errors do not count.
"""
import argparse
import json
import os
import sys

import numpy
import torch

import tensors
from model import Vlmo
from objectives import IGNORED, WEIGHTS, Batch, Draws, Step
from optimiser import AdamW, learning_rate

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "ts", "test", "train", "reference")
STEPS, PAIRS = 10, 4
PAD, UNK, CLS, SEP, MASK = range(5)
FIRST_CONTINUATION = 50

ARCH = {
    "image_size": 24,
    "patch_size": 8,
    "embed_dim": 16,
    "depth": 3,
    "num_heads": 2,
    "mlp_ratio": 2,
    "vlffn_start_layer_index": 2,
    "max_text_len": 12,
    "max_text_len_of_initckpt": 20,
    "vocab_size": 60,
    "vqav2_label_size": 7,
}
ARCHS = {
    "relative": {**ARCH, "use_abs_pos_emb": False, "need_relative_position_embed": True, "layer_scale_init_values": 0.1},
    "absolute": {**ARCH, "use_abs_pos_emb": True, "need_relative_position_embed": False, "layer_scale_init_values": None},
}

# What the original trains on texts alone.
TEXT_PARAMETERS = (
    "text_embeddings",
    "token_type_embeddings",
    "mlp_text",
    "norm2_text",
    "mlm_score",
    "relative_position_bias_table",
    "transformer.norm",
)
DROPPED = {"drop_path": 0.3, "text_dropout": 0.3}
STAGES = {
    "text": {"objectives": ["textmlm"], "trainable": TEXT_PARAMETERS},
    "pairs": {"objectives": ["itc", "itm", "mlm"]},
    "retrieval": {"objectives": ["irtr"]},
    "vqa": {"objectives": ["vqa"], "head_rate": 20},
    "nlvr2": {"objectives": ["nlvr2"]},
    "text_dropped": {"objectives": ["textmlm"], "trainable": TEXT_PARAMETERS, **DROPPED},
    "pairs_dropped": {"objectives": ["itc", "itm", "mlm"], **DROPPED},
    "nlvr2_dropped": {"objectives": ["nlvr2"], **DROPPED},
    # Dropout of texts counts through the rows of a run, so that a batch in parts draws otherwise; drop path does not.
    "pairs_drop_path": {"objectives": ["itc", "itm", "mlm"], "drop_path": 0.3},
}
# Runs of the preset `original`: texts, pairs from the weights that texts leave, and each task from those that pairs leave.
ORIGINAL = {
    "original_text": {"objectives": ["textmlm"], "trainable": TEXT_PARAMETERS},
    "original_pairs": {"objectives": ["itc", "itm", "mlm"]},
    "original_retrieval": {"objectives": ["irtr"]},
    "original_vqa": {"objectives": ["vqa"], "head_rate": 20},
    "original_nlvr2": {"objectives": ["nlvr2"]},
}
STARTS = {
    "original_pairs": "original_text",
    "original_retrieval": "original_pairs",
    "original_vqa": "original_pairs",
    "original_nlvr2": "original_pairs",
}
ORIGINAL_SETTINGS = {"steps": 5, "total_steps": 5, "warmup_steps": 2, "drop_path": 0.1, "text_dropout": 0.1}
DEFAULTS = {
    "steps": STEPS,
    "drop_path": 0,
    "text_dropout": 0,
    "head_rate": 1,
    "learning_rate": 2e-3,
    "warmup_steps": 3,
    "total_steps": 14,
    "weight_decay": 0.01,
    "betas": [0.9, 0.98],
    "eps": 1e-8,
}


def float32(values):
    return values.detach().numpy().astype(numpy.float32)


def initial_model(arch, random):
    """A model whose every parameter matters: no zeros, no ones, and numbers large enough that a wrong sign or scale shows."""
    model = Vlmo(arch).double()
    for name, values in model.named_parameters():
        if name.startswith("logit"):
            drawn = numpy.log(1 / 0.07) + 0.1 * random.standard_normal(values.shape)
        elif values.ndim == 1 and name.endswith("weight"):
            drawn = 1 + 0.1 * random.standard_normal(values.shape)
        elif "gamma" in name:
            drawn = 0.5 + 0.1 * random.standard_normal(values.shape)
        else:
            drawn = (0.1 if name.endswith("bias") else 0.25) * random.standard_normal(values.shape)
        values.data.copy_(torch.from_numpy(numpy.asarray(drawn, dtype=numpy.float32)))
    return model


def draw_inputs(random):
    """The batches of all steps: texts of 4 to L pieces, two pictures each, scores of answers, truth of statements."""
    length, side, answers = ARCH["max_text_len"], ARCH["image_size"], ARCH["vqav2_label_size"]
    text_ids = numpy.zeros((STEPS, PAIRS, length), numpy.int64)
    for text in text_ids.reshape(-1, length):
        pieces = random.integers(4, length + 1)
        text[0], text[1 : pieces - 1], text[pieces - 1] = CLS, random.integers(MASK + 1, ARCH["vocab_size"], pieces - 2), SEP
        text[1] = random.integers(MASK + 1, FIRST_CONTINUATION)
    scores = random.choice([0, 0.3, 0.6, 0.9, 1], (STEPS, PAIRS, answers), p=[0.6, 0.1, 0.1, 0.1, 0.1])
    colours = random.integers(0, 256, (STEPS, PAIRS, 2, side // 4, side // 4, 3))
    return {
        "text_ids": text_ids,
        "bytes": colours.repeat(4, 3).repeat(4, 4).astype(numpy.uint8),
        "vqa_targets": scores.astype(numpy.float32),
        "truth": random.integers(0, 2, (STEPS, PAIRS)),
    }


def batch_of(inputs, step):
    ids = torch.from_numpy(inputs["text_ids"][step])
    pixels = torch.from_numpy(inputs["bytes"][step]).permute(0, 1, 4, 2, 3).double()
    pixels = (pixels / 255 - 0.5) / 0.5
    targets, truth = torch.from_numpy(inputs["vqa_targets"][step]).double(), torch.from_numpy(inputs["truth"][step])
    return Batch(ids, (ids != PAD).long(), pixels[:, 0], pixels[:, 1], targets, truth)


def mask_words(text_ids, random):
    """Whole words within a budget of 0.15 of the padded length; padding takes its part of it. Drawn again until something is masked."""
    batch, length = text_ids.shape
    while True:
        ids, labels = text_ids.copy(), numpy.full_like(text_ids, IGNORED)
        for text, own_labels, own_ids in zip(text_ids, labels, ids):
            words = []
            for place in range(1, length):
                if text[place] == SEP:
                    continue
                if text[place] >= FIRST_CONTINUATION and words and words[-1][-1] == place - 1:
                    words[-1].append(place)
                else:
                    words.append([place])
            random.shuffle(words)
            budget, chosen = max(1, round(0.15 * length)), []
            for word in words:
                if len(chosen) + len(word) <= budget:
                    chosen += word
            for place in chosen:
                if text[place] == PAD:
                    continue
                own_labels[place] = text[place]
                choice = random.random()
                if choice < 0.8:
                    own_ids[place] = MASK
                elif choice < 0.9:
                    own_ids[place] = random.integers(ARCH["vocab_size"])
        if (labels != IGNORED).any():
            return ids, labels


def draw_negatives(similarity, random):
    """For each pair a wrong picture and a wrong text, by the softmax of the scaled similarities [pictures, texts]."""
    negatives = []
    for scores in (similarity.t(), similarity):
        chances = scores.detach().double().softmax(1).numpy()
        numpy.fill_diagonal(chances, 0)
        negatives.append(numpy.array([random.choice(len(row), p=row / row.sum()) for row in chances]))
    return negatives


def draw_kept(settings, random):
    """Which residual branches each pass keeps, and the seeds of its dropout of text embeddings."""
    highest, layers, first = settings["drop_path"], ARCH["depth"], ARCH["vlffn_start_layer_index"]
    keep_of_layer = 1 - highest * numpy.arange(layers) / (layers - 1)
    fused = 4 * PAIRS if "itm" in settings["objectives"] else PAIRS
    shapes = {
        "itc": {"contrastive": (0, 3, 2 * PAIRS), "contrastive_branch": (first, 2, 2 * PAIRS), "fused": (0, 3, fused)},
        "irtr": {"contrastive": (0, 3, 2 * PAIRS)},
        "textmlm": {"text": (0, 3, PAIRS)},
        "vqa": {"fused": (0, 3, fused)},
        "nlvr2": {"statements": (0, 3, 2 * PAIRS)},
    }[settings["objectives"][0]]
    keep = {
        name: (random.random((layers - begin, parts, count)) < keep_of_layer[begin:, None, None]).astype(numpy.uint8)
        for name, (begin, parts, count) in shapes.items()
    }
    passes = [name for name in shapes if name != "contrastive_branch"]
    seeds = {name: int(random.integers(2**31)) for name in passes}
    return keep if highest > 0 else {}, seeds if settings["text_dropout"] > 0 else {}


def losses_of(model, batch, settings, random):
    """(losses by name with their weights, draws by name) of one step."""
    keep, seeds = draw_kept(settings, random)
    step = Step(model, batch, Draws(keep, settings["drop_path"], seeds, settings["text_dropout"]))
    drawn = {f"keep/{name}": bits for name, bits in keep.items()}
    drawn.update({f"seed/{name}": numpy.int64(seed) for name, seed in seeds.items()})
    objectives, losses = settings["objectives"], {}
    masked = negatives = None
    if "mlm" in objectives or "textmlm" in objectives:
        ids, labels = mask_words(batch.text_ids.numpy(), random)
        drawn["masked_ids"], drawn["mlm_labels"] = ids, labels
        masked = (torch.from_numpy(ids), torch.from_numpy(labels))
    for objective in objectives:
        if objective in ("itc", "irtr"):
            similarities = step.similarities(objective)
            losses[objective] = step.contrastive_loss(similarities)
        elif objective == "itm":
            negatives = draw_negatives(similarities[0], random)
            drawn["negative_image"], drawn["negative_text"] = negatives
        elif objective != "mlm":
            losses[objective] = step.textmlm(masked) if objective == "textmlm" else getattr(step, objective)()
    if "itm" in objectives:
        losses.update(step.itm_and_mlm(negatives, masked))
    return {name: WEIGHTS[name] * loss for name, loss in losses.items()}, drawn


def record(model, inputs, settings, random):
    """Trains the model in place: losses and rates of each step, gradients of the first, parameters after the last, and all draws."""
    trainable = settings.get("trainable")
    for name, values in model.named_parameters():
        values.requires_grad_(trainable is None or any(part in name for part in trainable))
    optimiser = AdamW(model.named_parameters(), settings["betas"], settings["eps"], settings["weight_decay"], settings["head_rate"])
    results, columns, reached = {}, {}, set()
    for number in range(settings["steps"]):
        optimiser.zero_gradients()
        losses, drawn = losses_of(model, batch_of(inputs, number), settings, random)
        sum(losses.values()).backward()
        gradients = {name: values.grad for name, values in model.named_parameters() if values.grad is not None}
        if number == 0:
            results.update({f"gradient/{name}": float32(values) for name, values in gradients.items()})
        reached |= gradients.keys()
        rate = learning_rate(number, settings["learning_rate"], settings["total_steps"], settings["warmup_steps"])
        optimiser.step(rate)
        row = {f"losses/{name}": numpy.float32(loss.item()) for name, loss in losses.items()}
        row["learning_rates"] = numpy.float32(rate)
        row.update({f"draw/{name}": values for name, values in drawn.items()})
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    results.update({name: numpy.stack(values) for name, values in columns.items()})
    results.update({f"final/{name}": float32(values) for name, values in model.named_parameters() if name in reached})
    return results


def cases():
    """(path of a file below the folder, its tensors or its JSON), one after the other."""
    inputs = draw_inputs(numpy.random.default_rng(1))
    yield "inputs.safetensors", inputs
    for seed, (positions, arch) in enumerate(ARCHS.items(), 4):
        start = initial_model(arch, numpy.random.default_rng(seed))
        yield f"{positions}/weights.safetensors", {name: float32(values) for name, values in start.named_parameters()}
        stages = {name: {**DEFAULTS, **own} for name, own in STAGES.items()}
        if positions == "relative":
            stages.update({name: {**DEFAULTS, **ORIGINAL_SETTINGS, **own} for name, own in ORIGINAL.items()})
        yield f"{positions}/config.json", {"name": positions, "arch": arch, "stages": stages}
        trained = {}
        for number, (name, settings) in enumerate(stages.items()):
            model = Vlmo(arch).double()
            model.load_state_dict(trained[STARTS[name]] if name in STARTS else start.state_dict())
            trained[name] = model.state_dict()
            yield f"{positions}/{name}.safetensors", record(model, inputs, settings, numpy.random.default_rng((seed, number)))


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if path.endswith(".safetensors"):
        return tensors.write(path, content)
    with open(path, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def difference(path, content):
    """What a file has otherwise, or None. Numbers may differ in their last digits from those of another machine."""
    if not path.endswith(".safetensors"):
        with open(path) as file:
            return None if json.load(file) == json.loads(json.dumps(content)) else "other settings"
    found = tensors.read(path)
    if found.keys() != content.keys():
        return f"other tensors: {sorted(found.keys() ^ content.keys())}"
    for name, values in content.items():
        if found[name].shape != values.shape or not numpy.allclose(found[name], values, rtol=1e-5, atol=1e-7):
            return f"other values of {name}"


def main():
    parser = argparse.ArgumentParser(description="record the reference cases of training stages")
    parser.add_argument("--check", action="store_true", help="compare with the files in place of writing them")
    parser.add_argument("--folder", default=FOLDER)
    options = parser.parse_args()
    wrong = 0
    for name, content in cases():
        path = os.path.join(options.folder, name)
        if options.check:
            found = difference(path, content)
            wrong += found is not None
            print(f"{name}: {found or 'the same'}")
        else:
            write(path, content)
            print(name)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
