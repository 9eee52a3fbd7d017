"""A network in training: one update from one batch, and what must be saved between updates."""

import math
from typing import Any

import torch
from torch import Tensor

from zdce import ops
from zdce.formulas import Objective
from zdce.model import DCENet
from zdce.training.config import Config


class Learner:
    """The network of ``config`` with everything that changes with it from update to update."""

    def __init__(self, config: Config) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.model = DCENet(config.variant).to(config.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr)

    def step(self, batch: Tensor) -> list[float]:
        """One update from ``batch`` (B, 3, size, size) uint8; gives the total and the terms, and makes none where they are not
        finite."""
        self.optimizer.zero_grad()
        objective = self._objective(batch)
        losses = torch.stack(objective).tolist()
        if all(map(math.isfinite, losses)):
            objective.total.backward()
            self.optimizer.step()
        return losses

    def _objective(self, batch: Tensor) -> Objective:
        image = batch.to(self.config.device).float() / 255
        return ops.zero_reference_objective(
            image,
            self.model(image),
            self.config.weights,
            normalization=self.config.normalization,
            iterations=self.model.variant.iterations,
        )

    @torch.no_grad()
    def validate(self, images: Tensor) -> list[float]:
        """The mean total and terms over ``images`` (N, 3, size, size) uint8."""
        sums = torch.zeros(len(Objective._fields), dtype=torch.float64)
        for batch in images.split(self.config.batch_size):
            sums += len(batch) * torch.stack(self._objective(batch)).double().cpu()
        return (sums / len(images)).tolist()

    def tensors(self) -> dict[str, Tensor]:
        """Copies of all that ``load`` needs, on the CPU."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors.update({f"adam.{i}.{key}": tensor for key, tensor in values.items()})
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over what ``tensors`` gave.

        Raises:
            KeyError, RuntimeError, ValueError: they are of another network.
        """
        model: dict[str, Tensor] = {}
        adam: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            kind, rest = name.split(".", 1)
            if kind == "model":
                model[rest] = tensor
            else:
                i, key = rest.split(".")
                adam.setdefault(int(i), {})[key] = tensor
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": adam})
