"""One step of stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlib.data import Images
from cnnlib.data.augment import normalise
from cnnlib.models.layers import WithAuxiliary
from cnnlib.training import hardware
from cnnlib.training.distributed import ALONE, Processes
from cnnlib.training.network import check_outputs
from cnnlib.training.recipe import Recipe

AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Step:
    """Forward, backward and update for a batch. Nothing is read back from the device.

    Weights and momentum are fp32; with fp16 the loss is scaled so that small gradients survive, and steps whose
    gradients overflow are left out.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        data: Images,
        precision: str,
        compiled: bool,
        processes: Processes = ALONE,
    ) -> None:
        self.device = device = next(module.parameters()).device
        self.precision, self.compiled = precision, compiled
        self.module, self.data, self.processes = module, data, processes
        self.mean, self.std = torch.tensor(data.mean, device=device), torch.tensor(data.std, device=device)
        self.forward = processes.connect(module)
        if compiled:
            with hardware.SHARED:  # not within a step of another training, whose compiled code this throws away
                torch.compiler.reset()  # after some recompilations of the same class PyTorch would silently run eagerly
            self.forward = torch.compile(self.forward, dynamic=False)
        self.autocast = torch.autocast(device.type, AUTOCAST[precision], enabled=precision != "fp32")
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        # A GPU reads the rate from its own memory, so that a recorded step takes the current one.
        self.lr = torch.tensor(recipe.lr, device=device) if device.type == "cuda" else recipe.lr
        self.optimizer = torch.optim.SGD(
            [parameter for parameter in module.parameters() if parameter.requires_grad],
            lr=self.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        if recipe.momentum:
            # PyTorch's fused SGD allocates the momentum in the first step without clearing it. If loss scaling leaves
            # that step out, the second one would use whatever the memory held.
            for parameter in self.optimizer.param_groups[0]["params"]:
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def __call__(self, images: Tensor, labels: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """Update the weights once.

        Args:
            images: uint8 (batch, C, H, W), on the device; of several processes each gives its share of the batch.
            labels: int64 (batch,).
            lr: learning rate.

        Returns:
            Mean loss, that of auxiliary heads included, and number of correct answers, both of all processes' shares
            and before the update, as tensors on the device.
        """
        self.set_lr(lr)
        return self.update(images, labels)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next steps."""
        (group,) = self.optimizer.param_groups
        if isinstance(self.lr, Tensor):
            group["lr"] = self.lr.fill_(lr)
        else:
            group["lr"] = lr

    def update(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Update the weights with the learning rate that was set."""
        with self.autocast:
            output = self.forward(normalise(images, self.mean, self.std))
        logits, heads = output if isinstance(output, WithAuxiliary) else (output, ())
        check_outputs(logits, self.data)
        loss = F.cross_entropy(logits.float(), labels)
        for head in heads:
            loss = loss + self.module.auxiliary_weight * F.cross_entropy(head.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        correct = (logits.detach().argmax(1) == labels).sum()
        return self.processes.mean(loss.detach()), self.processes.sum(correct)

    def state(self) -> dict[str, Any]:
        """Return what the next step depends on, besides the weights."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
