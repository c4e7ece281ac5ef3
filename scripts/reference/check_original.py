"""Holds the PyTorch model of this folder to cases that were recorded from the original code: outputs, losses, gradients, four steps.

/usr/bin/python3 scripts/reference/check_original.py [folder of a case ...]

Without folders the cases ts/test/golden/tiny_relative and tiny_absolute. Ends with 1 where a number is beyond its bound.
"""
import json
import os
import sys

import torch

import tensors
from objectives import Batch, Step, WEIGHTS
from model import Vlmo
from optimiser import AdamW, learning_rate

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "ts", "test", "golden")
BOUNDS = {"output": 2e-5, "loss": 2e-5, "gradient": 1e-4, "training": 5e-4}


def load(folder):
    """The configuration of a case, its inputs as tensors, and its model."""
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    inputs = {name: torch.from_numpy(array) for name, array in tensors.read(os.path.join(folder, "inputs.safetensors")).items()}
    state = torch.load(os.path.join(folder, "weights.pt"), map_location="cpu")
    state = state.get("state_dict") or state["module"]
    state = {name[len("module.") :] if name.startswith("module.") else name: value.float() for name, value in state.items()}
    model = Vlmo(config["arch"])
    own = dict(model.named_parameters())
    missing = own.keys() - state.keys()
    if missing:
        raise SystemExit(f"{folder}: expected all parameters, missing {sorted(missing)}")
    model.load_state_dict({name: state[name].reshape(own[name].shape) for name in own})
    return config, inputs, model


class Comparison:
    """Relative L2 errors, and the largest of each kind."""

    def __init__(self):
        self.worst, self.failed, self.count = {}, [], 0

    def check(self, kind, name, actual, expected, exact=False):
        actual, expected = actual.detach().double().flatten(), expected.double().flatten()
        norm = expected.norm().item()
        error = (actual - expected).norm().item() / (norm or 1)
        self.count += 1
        key = "untouched" if exact else kind
        if error >= self.worst.get(key, (-1, ""))[0]:
            self.worst[key] = (error, name)
        if not error <= (0 if exact else BOUNDS[kind]):
            self.failed.append(f"{kind} {name}: {error:.3g}")


def losses_of(model, batch, inputs):
    """Name -> function of each objective's loss alone."""
    negatives = (inputs["itm_negative_image"], inputs["itm_negative_text"])
    masked = (inputs["text_ids_mlm"], inputs["text_labels_mlm"])
    step = Step(model, batch)
    return {
        "itc": lambda: step.contrastive_loss(step.similarities("itc")),
        "irtr": lambda: step.contrastive_loss(step.similarities("irtr")),
        "itm": lambda: step.itm_and_mlm(negatives)["itm"],
        "mlm": lambda: WEIGHTS["mlm"] * step.itm_and_mlm(masked=masked)["mlm"],
        "textmlm": lambda: step.textmlm(masked),
        "vqa": step.vqa,
        "nlvr2": step.nlvr2,
    }


def outputs_of(model, batch, inputs):
    step = Step(model, batch)
    (text, text_vl), (image, image_vl) = step.contrastive(True)
    padding = batch.visible[..., None]
    own = list(range(len(batch.text_ids)))
    fused = step.fused((own, own))
    length = batch.text_ids.shape[1]
    ids = inputs["text_ids_mlm"]
    words_alone = model.alone(model.embed_texts(ids), batch.visible, "text", step.draws.scales("", step.layers, len(ids)))[0]
    return {
        "dual/text_hidden": text * padding,
        "dual/image_hidden": image,
        "dual/text_embed": model.embedding(text, "itc_text_proj"),
        "dual/image_embed": model.embedding(image, "itc_image_proj"),
        "dual/text_embed_vl": model.embedding(text_vl, "itc_vl_text_proj"),
        "dual/image_embed_vl": model.embedding(image_vl, "itc_vl_image_proj"),
        "fusion/text_hidden": fused[:, :length] * padding,
        "fusion/image_hidden": fused[:, length:],
        "fusion/pooled": model.pooled(fused),
        "fusion/itm_logits": model.itm_score.fc(model.pooled(fused)),
        "fusion/vqa_logits": step.answers(),
        "fusion/nlvr2_logits": step.judgements(),
        "fusion/mlm_logits": model.words(step.fused(masked=ids)[:, :length]) * padding,
        "text/mlm_logits": model.words(words_alone) * padding,
    }


def check_case(folder):
    name = os.path.basename(folder)
    expected = {
        part: {key: torch.from_numpy(value) for key, value in tensors.read(os.path.join(folder, f"{part}.safetensors")).items()}
        for part in ("outputs", "grads", "training")
    }
    config, inputs, model = load(folder)
    batch = Batch(
        inputs["text_ids"], inputs["text_masks"], inputs["image"], inputs["image_1"], inputs["vqa_targets"], inputs["nlvr2_labels"]
    )
    compared = Comparison()
    losses = losses_of(model, batch, inputs)
    for key, value in outputs_of(model, batch, inputs).items():
        compared.check("output", key, value, expected["outputs"].pop(key))
    for objective, loss_of in losses.items():
        model.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        compared.check("loss", objective, loss, expected["outputs"].pop(f"loss/{objective}"))
        for parameter, values in model.named_parameters():
            gradient = torch.zeros_like(values) if values.grad is None else values.grad
            recorded = expected["grads"].pop(f"{objective}/{parameter}", torch.zeros_like(values))
            compared.check("gradient", f"{objective}/{parameter}", gradient, recorded)
    left = [*expected["outputs"], *expected["grads"]]
    if left:
        raise SystemExit(f"{name}: nothing was compared with {left}")

    training = config["training"]
    start = {parameter: values.detach().clone() for parameter, values in model.named_parameters()}
    optimiser = AdamW(model.named_parameters(), training["betas"], training["eps"], training["weight_decay"])
    reached, seen, rates = set(), [], []
    for number in range(training["steps"]):
        optimiser.zero_gradients()
        loss = sum(losses[objective]() for objective in training["objectives"])
        loss.backward()
        reached |= {parameter for parameter, values in model.named_parameters() if values.grad is not None}
        seen.append(loss.item())
        settings = (training[key] for key in ("learning_rate", "total_steps", "warmup_steps", "decay_power", "end_lr"))
        rates.append(learning_rate(number, *settings))
        optimiser.step(rates[-1])
    compared.check("training", "losses", torch.tensor(seen), expected["training"]["losses"])
    compared.check("training", "learning_rates", torch.tensor(rates), expected["training"]["learning_rates"])
    for parameter, values in model.named_parameters():
        final = expected["training"][f"final/{parameter}"]
        compared.check("training", f"final/{parameter}", values, final, exact=parameter not in reached)
        if parameter not in reached:
            compared.check("training", f"start/{parameter}", start[parameter], final, exact=True)
    print(f"{name}: {compared.count} tensors compared, {len(compared.failed)} beyond their bounds")
    for kind, (error, where) in compared.worst.items():
        print(f"  {kind}: {error:.2e} at most ({where})")
    for line in compared.failed:
        print(f"  FAILED {line}")
    return not compared.failed


if __name__ == "__main__":
    folders = sys.argv[1:] or [os.path.join(GOLDEN, name) for name in ("tiny_relative", "tiny_absolute")]
    sys.exit(0 if all([check_case(folder) for folder in folders]) else 1)
