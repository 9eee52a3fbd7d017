"""A network in training: updates from batches, and the state to save between updates."""

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from zdce import ops
from zdce.errors import InputError
from zdce.models import variants
from zdce.models.network import DCENet
from zdce.models.variants import CURVE
from zdce.ops import Objective, formulas
from zdce.runtime import float32, processes
from zdce.runtime.processes import SINGLE_PROCESS, Ranks
from zdce.training import step_graph
from zdce.training.config import AMP, Config
from zdce.training.step_graph import StepGraph

# First factor of gradients in float16. With torch's own, 2^16, those of a new network overflow, and a run would begin with six
# steps without an update.
_FIRST_SCALE = 2.0**10

# Waits for the mean total and terms of an update, which are the same in all processes.
Losses = Callable[[], list[float]]


class Learner:
    """Network of ``config`` with everything else that an update changes; equal in all processes of ``ranks``.

    Convolutions of float32 tensors are true float32 on GPUs too. After a few steps there, each step of a single process is one
    CUDA graph, unless the environment variable ``ZDCE_STEP_GRAPH`` is 0.
    """

    def __init__(self, config: Config, ranks: Ranks = SINGLE_PROCESS) -> None:
        self.config = config
        self.ranks = ranks
        self._device = torch.device(config.device)
        # A GPU computes the next step while the host reads a step's losses.
        self.asynchronous = _only_starts_work(self._device)
        self._autocast = AMP.get(self._device.type, torch.float32)
        # A GPU's tensor cores read the channels of a pixel together; convolutions in float32 do not use them.
        self._layout = torch.channels_last if self.asynchronous and config.amp else torch.contiguous_format
        torch.manual_seed(config.seed)
        self.model = DCENet(replace(variants.variant(config.variant), weights=config.weights), config.activations)
        self.model.to(config.device, memory_format=self._layout)  # type: ignore[call-overload]
        # Its backward averages the gradients of all processes; their parts of a batch are equally large, so the mean is the
        # batch's.
        with processes.raising_rank_lost():
            self.parallel: nn.Module = DistributedDataParallel(self.model) if ranks.world > 1 else self.model
        # In one kernel, and without asking a GPU whether gradients are finite.
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.lr, fused=self.asynchronous or None, capturable=self.asynchronous
        )
        # Learning rate of the optimizer on a GPU, where a captured step reads it; the schedule computes with the number.
        self._rate = torch.zeros((), device=config.device) if self.asynchronous else None
        self.schedule = CosineAnnealingLR(self.optimizer, config.epochs) if config.schedule == "cosine" else None
        scaled = config.amp and self._autocast == torch.float16
        self.scaler = torch.amp.GradScaler(self._device.type, _FIRST_SCALE, enabled=scaled)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema else None
        # None: steps run kernel by kernel. Processes exchange gradients in threads of their own, which a graph can't repeat.
        graphed = self.asynchronous and ranks.world == 1 and os.environ.get(step_graph.VARIABLE) != "0"
        self._graph = StepGraph(self._device) if graphed else None

    @property
    def kept(self) -> DCENet:
        """Network whose weights are validated and saved: the moving average if there is one."""
        return self.model if self.average is None else cast(DCENet, self.average.module)

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.optimizer.param_groups[0]["lr"]

    def step(self, batch: Tensor) -> list[float]:
        """One update, and its losses: see ``begin_step``."""
        return self.begin_step(batch)()

    @property
    def warm_up(self) -> int:
        """Number of the first steps that take longer than later ones."""
        return 1 if self._graph is None else step_graph.WARM_UP + 1

    def begin_step(self, batch: Tensor) -> Losses:
        """Begins an update from ``batch`` (accumulate * B, 3, size, size) uint8, this process's part of the pictures.

        Returns a function that waits for the mean total and terms over all processes. If they are not finite, the weights are
        spoiled; on the CPU, where they are known at once, there is no update.

        Raises:
            zdce.runtime.processes.RankLostError: another process is gone.
        """
        if self._rate is not None:
            self._rate.fill_(self.rate)
        if self._graph is not None:
            mean = self._mean(self._graph.run(self._whole_step, batch))
        else:
            mean = self._mean(self.differentiate(batch))
            if not self.asynchronous and not all(map(math.isfinite, mean())):
                return mean
            self._update()
        if self.average is not None:
            self.average.n_averaged += 1
        return mean

    @float32.convolutions("ieee")
    def differentiate(self, batch: Tensor) -> Tensor:
        """Computes the gradients of an update from ``batch``, as for ``begin_step``, times the scaler's scale.

        Returns total and terms of this process's pictures, (5,) float64.
        """
        self.optimizer.zero_grad()
        parts = batch.split(self.config.batch_size // self.ranks.world)
        losses = []
        for number, part in enumerate(parts, 1):
            with processes.raising_rank_lost(), self._gradient_exchange(number == len(parts)):
                objective = self._objective(self.parallel, part)
                losses.append(torch.stack(objective).detach().double())
                self.scaler.scale(objective.total / len(parts)).backward()
        return torch.stack(losses).mean(0)

    def _whole_step(self, batch: Tensor) -> Tensor:
        """An update without the host's part in it; a CUDA graph repeats what it does to tensors. Returns the losses."""
        losses = self.differentiate(batch)
        self._update()
        return losses

    def _gradient_exchange(self, last: bool) -> AbstractContextManager[None]:
        """Context of a backward pass: processes exchange gradients only in the ``last`` one of an update."""
        if isinstance(self.parallel, DistributedDataParallel) and not last:
            return cast(AbstractContextManager[None], self.parallel.no_sync())
        return nullcontext()

    def _mean(self, losses: Tensor) -> Losses:
        """A function that waits for the mean of ``losses`` (5,) over all processes."""
        # A copy, wherever they are: a later step may overwrite them.
        values = losses.to("cpu", non_blocking=self.asynchronous, copy=True)
        copied = _recorded(losses.device) if losses.is_cuda else None

        @cache
        def mean() -> list[float]:
            if copied is not None:
                copied.synchronize()
            return (self.ranks.summed(values) / self.ranks.world).tolist()

        return mean

    def _update(self) -> None:
        if self.config.clip:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), self.config.clip)
        with self._rate_in_memory():
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self._update_average(self.average)

    @contextmanager
    def _rate_in_memory(self) -> Iterator[None]:
        """Context in which the optimizer's learning rate is the one in the GPU's memory, if there is one."""
        (group,) = self.optimizer.param_groups
        number = group["lr"]
        group["lr"] = number if self._rate is None else self._rate
        try:
            yield
        finally:
            group["lr"] = number

    @torch.no_grad()
    def _update_average(self, average: AveragedModel) -> None:
        # As ``average.update_parameters``, which a CUDA graph can't repeat: it copies its counter to the GPU and waits for it.
        # ``begin_step`` counts.
        averaged: list[Tensor] = list(average.module.parameters())
        weights: list[Tensor] = list(self.model.parameters())
        if average.n_averaged == 0:
            torch._foreach_copy_(averaged, weights)
        else:
            assert average.multi_avg_fn is not None
            average.multi_avg_fn(averaged, weights, average.n_averaged)

    def end_epoch(self) -> None:
        """Sets the learning rate of the next epoch."""
        if self.schedule is not None:
            with warnings.catch_warnings():
                # The warning is wrong for a run that was resumed after the last update of an epoch: it has made no update yet.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.schedule.step()

    def _objective(self, model: nn.Module, batch: Tensor) -> Objective:
        image = self._image(batch)
        with torch.autocast(self._device.type, self._autocast, enabled=self.config.amp):
            logits = model(image)
        if self.model.variant.formula != CURVE:
            return self._objective_of_estimates(image, torch.tanh(logits.float()))
        return ops.zero_reference_objective(
            image,
            logits,
            self.config.weights,
            target=self.config.target,
            normalization=self.config.normalization,
            iterations=self.model.variant.iterations,
        )

    def _image(self, batch: Tensor) -> Tensor:
        """``batch`` (B, 3, size, size) uint8 on the device, in [0, 1] and in the layout of the weights."""
        image = batch.to(self._device, non_blocking=True)
        return image.to(torch.float32, memory_format=self._layout) / 255

    def _objective_of_estimates(self, image: Tensor, estimates: Tensor) -> Objective:
        """The objective of ``image`` (B, 3, H, W) and what the variant's formula makes of ``estimates`` (B, 3, H, W), from the
        single losses.
        """
        enhanced = self.model.formed(image, estimates)
        return formulas.objective(
            self.config.weights,
            illumination=ops.illumination_smoothness(estimates, self.config.normalization),
            spatial=ops.spatial_consistency(enhanced, image),
            color=ops.color_constancy(enhanced),
            exposure=ops.exposure_control(enhanced, self.config.target),
        )

    @torch.no_grad()
    @float32.convolutions("ieee")
    def validate(self, batches: Iterable[Tensor]) -> list[float]:
        """Mean total and terms over the images of all processes' ``batches``, each (B, 3, size, size) uint8."""
        sums, images = torch.zeros(len(Objective._fields), dtype=torch.float64), 0
        for batch in batches:
            sums += len(batch) * torch.stack(self._objective(self.kept, batch)).double().cpu()
            images += len(batch)
        *totals, count = self.ranks.summed(torch.cat([sums, sums.new_tensor([images])])).tolist()
        return [total / count for total in totals]

    @torch.no_grad()
    @float32.convolutions("ieee")
    def enhance(self, images: Tensor) -> Tensor:
        """Results of the network ``kept`` for ``images`` (B, 3, size, size) uint8, in [0, 1]."""
        return self.kept.enhance(self._image(images))

    def tensors(self) -> dict[str, Tensor]:
        """Copies of all tensors that ``load`` needs, on the CPU."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors.update({f"adam.{i}.{key}": tensor for key, tensor in values.items()})
        if self.average is not None:
            tensors.update({f"average.{name}": tensor for name, tensor in self.average.state_dict().items()})
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}

    def numbers(self) -> dict[str, Any]:
        """All other values that ``load`` needs, for JSON."""
        return {"scaler": self.scaler.state_dict(), "schedule": self.schedule.state_dict() if self.schedule else {}}

    def check(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Checks the arguments of ``load``.

        Raises:
            InputError: ``tensors`` or ``numbers`` belong to another network, or weights are not finite.
        """
        for kind, expected in self._shapes().items():
            held = {name: tensor.shape for name, tensor in _under(kind, tensors).items()}
            # Adam has no tensors before the first update; a run that had no average before has none either.
            if held != expected and (held or kind == "model"):
                name = min(name for name in {**held, **expected} if held.get(name) != expected.get(name))
                must, got = (tuple(shapes[name]) if name in shapes else "absent" for shapes in (expected, held))
                raise InputError(f"{kind}.{name} must be {must}, got {got}")
        for name, tensor in _under("model", tensors).items():
            if not tensor.isfinite().all():
                raise InputError(f"model.{name} must be finite, got values that are not")
        if self.schedule is not None and not {"last_epoch", "_last_lr"} <= set(numbers.get("schedule") or {}):
            raise InputError(f"expected a schedule's numbers, got {numbers.get('schedule')!r}")

    def _shapes(self) -> dict[str, dict[str, torch.Size]]:
        """Shapes of the tensors that ``load`` takes, by kind and name."""
        shapes = {"model": {name: tensor.shape for name, tensor in self.model.state_dict().items()}}
        shapes["adam"] = {
            f"{i}.{name}": shape
            for i, p in enumerate(self.model.parameters())
            for name, shape in (("step", torch.Size()), ("exp_avg", p.shape), ("exp_avg_sq", p.shape))
        }
        if self.average is not None:
            shapes["average"] = {name: tensor.shape for name, tensor in self.average.state_dict().items()}
        return shapes

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Restores the results of ``tensors`` and ``numbers``, checked before. A missing average starts from the weights."""
        model, adam = _under("model", tensors), _under("adam", tensors)
        self.model.load_state_dict(model)
        parameters = list(self.model.parameters())
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in adam.items():
            i, key = name.split(".")
            parameter = parameters[int(i)]
            # Adam in one kernel needs each parameter's state in the parameter's layout.
            state.setdefault(int(i), {})[key] = (
                torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
            )
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        if self.average is not None:
            average = _under("average", tensors)
            self.average.load_state_dict(
                average or {**self.average.state_dict(), **{f"module.{n}": t for n, t in model.items()}}
            )
        if self.scaler.is_enabled() and numbers.get("scaler"):
            self.scaler.load_state_dict(numbers["scaler"])
        if self.schedule is not None:
            self.schedule.load_state_dict(numbers["schedule"])
            for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
                group["lr"] = rate
        if self._graph is not None:  # it would go on with the former state
            self._graph = StepGraph(self._device)


def _only_starts_work(device: torch.device) -> bool:
    """Whether ``device`` computes while the host goes on."""
    return device.type == "cuda"


def _recorded(device: torch.device) -> torch.cuda.Event:
    """Event after the work submitted so far to ``device``, which need not be torch's current one, such as ``cuda:1``."""
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event


def _under(kind: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose names begin with ``kind.``, by the rest of the name."""
    return {name.removeprefix(f"{kind}."): tensor for name, tensor in tensors.items() if name.startswith(f"{kind}.")}
