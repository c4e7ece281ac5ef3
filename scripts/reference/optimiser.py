"""The optimiser of the original: AdamW whose decay follows the step, its two groups of parameters, and its learning rate."""
import torch

NO_DECAY = (
    "bias",
    "LayerNorm.bias",
    "LayerNorm.weight",
    "norm.bias",
    "norm.weight",
    "norm1.bias",
    "norm1.weight",
    "norm2.bias",
    "norm2.weight",
)
TUNED_HEADS = ("vqa_classifier", "nlvr2_classifier")


def learning_rate(step, rate, total_steps, warmup_steps, decay_power=1, end_lr=0):
    """The rate of a step, counted from 0: linear warm-up from 0, then polynomial decay."""
    if step < warmup_steps:
        return rate * step / max(1, warmup_steps)
    if step >= total_steps:
        return end_lr
    return end_lr + (rate - end_lr) * (1 - (step - warmup_steps) / (total_steps - warmup_steps)) ** decay_power


class AdamW:
    """Moments are kept for each parameter; one without a gradient is left as it is, and its own steps are not counted."""

    def __init__(self, named_parameters, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01, head_rate=1):
        self.parameters = dict(named_parameters)
        self.betas, self.eps, self.weight_decay, self.head_rate = betas, eps, weight_decay, head_rate
        self.state = {}

    @torch.no_grad()
    def step(self, rate):
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            own_rate = rate * (self.head_rate if name.startswith(TUNED_HEADS) else 1)
            first, second, step = self.state.get(name, (torch.zeros_like(parameter), torch.zeros_like(parameter), 0))
            step += 1
            beta1, beta2 = self.betas
            first.mul_(beta1).add_(parameter.grad, alpha=1 - beta1)
            second.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
            self.state[name] = (first, second, step)
            size = own_rate * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
            parameter.addcdiv_(first, second.sqrt().add_(self.eps), value=-size)
            if not any(part in name for part in NO_DECAY):
                parameter.add_(parameter, alpha=-own_rate * self.weight_decay)

    def zero_gradients(self):
        for parameter in self.parameters.values():
            parameter.grad = None
