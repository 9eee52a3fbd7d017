"""The work of a study in stages; a stage is done once for the same inputs, which are compared by fingerprints."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zdce import training
from zdce.data import datasets
from zdce.data.datasets import Item
from zdce.enhancement.enhancer import Enhancer
from zdce.errors import InputError, library_call
from zdce.io import images
from zdce.metrics.baselines import BASELINES, USUAL, autocontrast
from zdce.metrics.evaluation import load_targets
from zdce.metrics.pictures import Rgb
from zdce.metrics.registry import AUTOCONTRAST, INPUT, REFERENCE
from zdce.models.network import DCENet, load
from zdce.models.variants import VARIANTS
from zdce.runtime import atomic, locks, progress, system
from zdce.settings import EnhanceSettings
from zdce.srgb import LUMA
from zdce.study import pictures
from zdce.study.measures import MEASURES, Measured, Source, measure
from zdce.study.results import Loss, Network, Results, from_csv, to_csv
from zdce.study.settings import BASE, Settings, called, file_fingerprint, fingerprint, listing

# How WebP files on the page are written.
_FILES = EnhanceSettings(quality=82)
# Width of the picture for measuring speed if pictures are not reduced (LOL's width), and number of measurements.
_SPEED_WIDTH = 600
_SPEED_ROUNDS = 5


class StudyInterruptedError(Exception):
    """A signal such as Ctrl-C came; finished work is kept."""


@dataclass(frozen=True)
class StudyFolder:
    """The files of a study."""

    path: Path

    def run(self, variant: str, seed: int) -> training.RunFolder:
        return training.RunFolder(self.path / "runs" / f"{variant}-{seed}")

    def measured(self, source: Source) -> Path:
        return self.path / "measured" / f"{slug(source)}.csv"

    def picture(self, index: int, source: Source, kind: str = "") -> Path:
        """File of the ``index``-th shown picture by ``source``; with a ``kind``, of its curve maps."""
        return self.path / "pictures" / f"{index}-{slug(source)}{kind}.webp"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.json"

    @property
    def networks(self) -> Path:
        return self.path / "measured" / "networks.csv"

    @property
    def results(self) -> Path:
        return self.path / "results"


def slug(source: Source) -> str:
    """Name of a source in file names."""
    method = source.method.replace(" ", "-")
    return f"{method}-{source.seed}-{source.epoch:03d}" if source.epoch else method


@dataclass(frozen=True)
class Stage:
    """One piece of work.

    Attributes:
        name: name in the ledger.
        kind: "training", "measuring" or "timing".
        label: description for the user.
        inputs: returns the fingerprint of its inputs; called only after the stages before are done.
        present: returns whether all of its output files exist.
        work: does the work.
        seconds: estimated time of the remaining work.
    """

    name: str
    kind: str
    label: str
    inputs: Callable[[], str]
    present: Callable[[], bool]
    work: Callable[[], None]
    seconds: float


class Ledger:
    """Fingerprints of the inputs of all stages that began, and the time of finished stages in seconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: dict[str, dict[str, Any]] = {}
        if path.is_file():
            try:
                with library_call(InputError):
                    self.entries = json.loads(path.read_text(encoding="utf-8"))
            except InputError as error:
                raise InputError(f"{path} must be JSON that zdce study wrote: {error}") from error

    def begun(self, name: str, inputs: str) -> bool:
        return self.entries.get(name, {}).get("inputs") == inputs

    def note(self, name: str, inputs: str, seconds: float = 0.0) -> None:
        before = self.entries[name].get("seconds", 0.0) if self.begun(name, inputs) else 0.0
        self.entries[name] = {"inputs": inputs, "seconds": round(before + seconds, 3)}
        atomic.write_text(self._path, json.dumps(self.entries, indent=1) + "\n")


class Study:
    """The stages of one study in one folder.

    Raises:
        FileNotFoundError, InputError: there is no data, or too little.
    """

    def __init__(self, settings: Settings, out: Path) -> None:
        self.settings = settings
        self.folder = StudyFolder(out)
        self.collection = datasets.collection(settings.data)
        training_pictures = len(self.collection.items) - self.collection.validation
        if training_pictures < settings.batch_size:
            raise InputError(f"data must hold {settings.batch_size} training pictures for one batch, got {training_pictures}")
        self.items = _spread(self.collection.validation_items(), settings.measured)
        self.collection.check_paired(self.items)
        self.shown = {item.name: i for i, item in enumerate(_spread(self.items, settings.shown))}
        self.ledger = Ledger(self.folder.ledger)
        self._loaded: training.Pictures | None = None
        self._all, self._validation = listing(self.collection.items), listing(self.items)

    def stages(self) -> list[Stage]:
        """All stages in order, done or not."""
        pace = _Pace(self.settings, self.items)
        stages = [self._baselines(pace)]
        for seed in range(self.settings.seeds):
            for variant in self.settings.variants:
                stages += [self._training(variant, seed, pace), *self._measuring(variant, seed, pace)]
        return [*stages, self._timing()]

    def is_done(self, stage: Stage) -> bool:
        """Whether the stage's outputs exist and were made from the present inputs."""
        return stage.present() and self.ledger.begun(stage.name, stage.inputs())

    def run(self, stage: Stage) -> None:
        """Does the work of ``stage``; when it is interrupted, finished parts are kept.

        Raises:
            StudyInterruptedError: a signal came.
            zdce.training.TrainingError: a loss is not finite.
        """
        inputs, started = stage.inputs(), time.perf_counter()
        try:
            stage.work()
        except (KeyboardInterrupt, training.TrainingInterruptedError) as error:
            raise StudyInterruptedError(f"stopped while {stage.label}; the same command continues") from error
        finally:
            # A stopped run is continued only if it began with the same inputs.
            if stage.kind == "training" or stage.present():
                self.ledger.note(stage.name, inputs, time.perf_counter() - started)

    def results(self) -> Results:
        """Results of all stages, when all are done."""
        sources = [Source(method) for method in self._plain_methods()]
        sources += [
            Source(variant, seed, epoch)
            for seed in range(self.settings.seeds)
            for variant in self.settings.variants
            for epoch in self.settings.kept
        ]
        measured = [row for source in sources for row in from_csv(Measured, self.folder.measured(source))]
        stages = {stage.name: stage.kind for stage in self.stages()}
        seconds = dict.fromkeys(stages.values(), 0.0)
        for name, kind in stages.items():
            seconds[kind] += self.ledger.entries[name]["seconds"]
        return Results(
            {
                **self.settings.to_dict(),
                "data": called(self.settings.data),
                "training pictures": len(self.collection.training_items()),
            },
            _environment(),
            seconds,
            tuple(self.shown),
            tuple(measured),
            tuple(self._losses()),
            tuple(from_csv(Network, self.folder.networks)),
        )

    def _plain_methods(self) -> list[str]:
        return [*USUAL, REFERENCE] if any(item.load_reference for item in self.items) else [*USUAL]

    def _losses(self) -> Iterator[Loss]:
        for seed in range(self.settings.seeds):
            for variant in self.settings.variants:
                log = training.read_log(self.folder.run(variant, seed))
                rows = (Loss(variant, seed, int(row.pop("epoch")), row.pop("split"), **_floats(row)) for row in log)
                yield from (row for row in rows if row.epoch <= self.settings.epochs)

    def _training(self, variant: str, seed: int, pace: "_Pace") -> Stage:
        folder, config = self.folder.run(variant, seed), self.settings.config(variant, seed)
        inputs = self._inputs_of_training(variant, seed)
        name = f"train {variant} {seed}"

        def present() -> bool:
            return all(folder.epoch(epoch).is_file() for epoch in self.settings.kept)

        began = self.ledger.begun(name, inputs) and folder.state.is_file()
        done = len(training.read_log(folder)) // 2 if began else 0
        label = f"training {self._called(variant, seed)}" + (f" from epoch {done + 1}" if 0 < done < config.epochs else "")
        steps = (config.epochs - done) * (len(self.collection.training_items()) // config.batch_size)
        seconds = 0.0 if began and present() else steps * pace.step(variant)
        return Stage(
            name, "training", label, lambda: inputs, present, partial(self._train, name, inputs, variant, seed), seconds
        )

    def _inputs_of_training(self, variant: str, seed: int) -> str:
        # The same run may have its pictures elsewhere and another number of epochs.
        config = replace(self.settings.config(variant, seed), data="", epochs=1).to_dict()
        return fingerprint({name: config[name] for name in self.settings.run_settings(variant, seed)}, self._all)

    def _train(self, name: str, inputs: str, variant: str, seed: int) -> None:
        folder, config = self.folder.run(variant, seed), self.settings.config(variant, seed)
        # A run that has passed the last epoch without keeping the required weights is repeated from the start.
        same = self.ledger.begun(name, inputs) and folder.state.is_file()
        resumes = same and len(training.read_log(folder)) // 2 < config.epochs
        if not resumes:
            shutil.rmtree(folder.path, ignore_errors=True)
            self.ledger.note(name, inputs)
        with locks.exclusive(folder.path):
            run = (training.Run.resume if resumes else training.Run.start)(config, folder.path)
            run.train(self._pictures_of(config))

    def _pictures_of(self, config: training.Config) -> training.Pictures:
        """Training and validation pictures, loaded once for all runs."""
        if self._loaded is None:
            self._loaded = training.load_pictures(config)
        return self._loaded

    def _measuring(self, variant: str, seed: int, pace: "_Pace") -> Iterator[Stage]:
        trained = self._inputs_of_training(variant, seed)
        for epoch in self.settings.kept:
            source, weights = Source(variant, seed, epoch), self.folder.run(variant, seed).epoch(epoch)
            outputs = [self.folder.measured(source), *self._pictures(source)]
            yield Stage(
                f"measure {variant} {seed} {epoch}",
                "measuring",
                f"measuring {self._called(variant, seed)} after {epoch} epochs",
                partial(self._inputs_of_measures, trained, weights),
                partial(_all_there, outputs),
                partial(self._measure, source, weights),
                len(self.items) * pace.picture(variant),
            )

    def _inputs_of_measures(self, trained: str = "", weights: Path | None = None) -> str:
        """Fingerprint that includes the training's inputs: weights that will be trained again are also measured again."""
        found = file_fingerprint(weights) if weights and weights.is_file() else ""
        return fingerprint(trained, found, self._validation, self.settings.side, list(self.shown), MEASURES, LUMA)

    def _called(self, variant: str, seed: int) -> str:
        return f"{variant}, seed {seed}" if self.settings.seeds > 1 else variant

    def _measure(self, source: Source, weights: Path) -> None:
        model = load(weights).to(self.settings.device)
        enhancer = Enhancer(model)
        rows = []
        draws = bool(self._pictures(source))
        for item in progress.track(self.items, len(self.items), f"measuring {slug(source)}"):
            picture, targets = _loaded(item, self.settings.side)
            result = images.as_uint8(enhancer(picture))
            rows.append(measure(source, item.name, result, targets))
            if draws and item.name in self.shown:
                self._show(self.shown[item.name], source, pictures.reduced(result, pictures.SHOWN_SIDE))
                if source.epoch == self.settings.epochs:
                    self._show(self.shown[item.name], source, pictures.of_maps(enhancer.maps(picture)), "-maps")
        atomic.write_text(self.folder.measured(source), to_csv(Measured, rows))

    def _pictures(self, source: Source) -> list[Path]:
        """Picture files of a source: for the first seed, base after every kept epoch and all at the end, with curve maps."""
        end = source.epoch in (0, self.settings.epochs)
        if source.seed or not (end or source.method == BASE):
            return []
        kinds = ("", "-maps") if source.epoch == self.settings.epochs else ("",)
        return [self.folder.picture(i, source, kind) for i in self.shown.values() for kind in kinds]

    def _show(self, index: int, source: Source, pixels: Rgb, kind: str = "") -> None:
        images.write(images.Picture(pixels), self.folder.picture(index, source, kind), _FILES)

    def _baselines(self, pace: "_Pace") -> Stage:
        sources = [Source(method) for method in self._plain_methods()]
        outputs = [path for source in sources for path in (self.folder.measured(source), *self._pictures(source))]
        return Stage(
            "measure baselines",
            "measuring",
            "measuring baselines",
            self._inputs_of_measures,
            partial(_all_there, outputs),
            self._measure_baselines,
            len(sources) * len(self.items) * pace.picture(None),
        )

    def _measure_baselines(self) -> None:
        rows: dict[str, list[Measured]] = {method: [] for method in self._plain_methods()}
        for item in progress.track(self.items, len(self.items), "measuring baselines"):
            picture, targets = _loaded(item, self.settings.side)
            results = {method: BASELINES[method](picture) for method in USUAL}
            results |= {REFERENCE: targets[REFERENCE]} if REFERENCE in targets else {}
            for method, result in results.items():
                rows[method].append(measure(Source(method), item.name, result, targets))
                if item.name in self.shown:
                    self._show(self.shown[item.name], Source(method), pictures.reduced(result, pictures.SHOWN_SIDE))
        for method, measured in rows.items():
            atomic.write_text(self.folder.measured(Source(method)), to_csv(Measured, measured))

    def _timing(self) -> Stage:
        machine = _environment()
        return Stage(
            "time networks",
            "timing",
            "timing the networks",
            lambda: fingerprint(machine, self.settings.variants, self.settings.device, self.settings.side),
            self.folder.networks.is_file,
            self._time,
            len(self.settings.variants) * (_SPEED_ROUNDS + 1) * 0.2,
        )

    def _time(self) -> None:
        rows = []
        for name in progress.track(self.settings.variants, len(self.settings.variants), "timing the networks"):
            variant = VARIANTS[name]
            milliseconds = _milliseconds(DCENet(variant).to(self.settings.device), self.settings.side or _SPEED_WIDTH)
            rows.append(
                Network(name, variant.summary, variant.part, variant.parameters, variant.macs, variant.iterations, milliseconds)
            )
        atomic.write_text(self.folder.networks, to_csv(Network, rows))


class _Pace:
    """Time of steps and pictures on this machine, measured when needed; variants with the same network share it."""

    def __init__(self, settings: Settings, items: Sequence[Item]) -> None:
        self._settings, self._items = settings, items
        self._steps: dict[Any, float] = {}
        self._pictures: dict[Any, float] = {}

    def step(self, variant: str) -> float:
        """Seconds of a training step."""
        network = _network(variant)
        if network not in self._steps:
            self._steps[network] = training.seconds_a_step(self._settings.config(variant, 0))
        return self._steps[network]

    def picture(self, variant: str | None) -> float:
        """Seconds to enhance (by ``variant``, if any) and measure a picture."""
        network = variant and _network(variant)
        if network not in self._pictures:
            started = time.perf_counter()
            picture, targets = _loaded(self._items[0], self._settings.side)
            result = picture
            if variant:
                result = images.as_uint8(Enhancer(DCENet(variant).to(self._settings.device))(picture))
            measure(Source("pace"), "", np.bitwise_not(result), targets)
            self._pictures[network] = time.perf_counter() - started
        return self._pictures[network]


def _all_there(paths: Sequence[Path]) -> bool:
    return all(path.is_file() for path in paths)


def _network(variant: str) -> Any:
    found = VARIANTS[variant]
    return found.sources, found.filters, found.maps, found.separable, found.scale, found.brightness > 0, found.noise > 0


def _floats(row: dict[str, str]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items()}


def _spread(items: Sequence[Item], count: int | None) -> list[Item]:
    """At most ``count`` of ``items``, evenly spaced."""
    if count is None or count >= len(items):
        return list(items)
    return [items[int((i + 0.5) * len(items) / count)] for i in range(count)]


def _loaded(item: Item, side: int | None) -> tuple[Rgb, dict[str, Rgb]]:
    """A picture and its targets, reduced to ``side``."""
    targets = {name: pictures.reduced(pixels, side) for name, pixels in load_targets(item, [REFERENCE]).items()}
    return targets[INPUT], {**targets, AUTOCONTRAST: autocontrast(targets[INPUT])}


def _milliseconds(model: DCENet, width: int) -> float:
    """Median time in milliseconds per megapixel of a whole 8-bit picture of 3:2 through ``model``."""
    pixels = np.random.default_rng(0).integers(0, 80, (width * 2 // 3, width, 3), np.uint8)
    enhancer, times = Enhancer(model), []
    for _ in range(_SPEED_ROUNDS + 1):
        started = time.perf_counter()
        enhancer(pixels)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:])) * 1e3 / (pixels.size / 3e6)


def _environment() -> dict[str, Any]:
    facts = system.facts()
    return {name: facts[name] for name in ("zdce", "torch", "python", "threads", "gpu")} | {"processor": system.processor()}
