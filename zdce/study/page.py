"""The page of a study: one self-contained HTML file, Markdown with PNG files, and all numbers as CSV and JSON."""

import base64
import csv
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup
from PIL import Image

from zdce.data.datasets import SAMPLE
from zdce.io import formats
from zdce.metrics.baselines import USUAL
from zdce.models.variants import VARIANTS
from zdce.runtime import atomic
from zdce.runtime.progress import duration
from zdce.study import claims, figures, tables
from zdce.study.measures import Source
from zdce.study.pictures import Labelled, sheet
from zdce.study.published import published
from zdce.study.results import Results, to_json
from zdce.study.settings import BASE
from zdce.study.stages import StudyFolder, slug
from zdce.study.tables import Table

_LABELS = {"input": "Original", "autocontrast": "PIL autocontrast", "reference": "True reference"}


class Shot(NamedTuple):
    """A picture: its file name without suffix, the label below it, and a description of its content."""

    key: str
    label: str
    alt: str


class Viewer(NamedTuple):
    """A before/after slider: the choices (part of the file name, label), and the first choice on each side."""

    choices: list[tuple[str, str]]
    left: str
    right: str


@dataclass(frozen=True)
class Ablation:
    """One variant's part of the page."""

    name: str
    summary: str
    words: str
    drawing: figures.Drawing
    rows: list[list[Shot]]
    maps: list[Shot]
    pictures: Table


@dataclass(frozen=True)
class Part:
    """One part of the report: its variants beside base."""

    number: str
    title: str
    words: str
    comparison: figures.Drawing
    table: Table
    viewer: Viewer
    ablations: list[Ablation]


class Page:
    """Content of the templates, from the results and pictures in ``folder``."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self.results = Results.load(folder.results)
        self.published = published()
        self.judged = claims.judge(self.results)
        self.last = self.results.epochs[-1]
        self.drawings: dict[str, figures.Drawing] = {}

    def has(self, variant: str) -> bool:
        return variant in self.results.variants

    def drawing(self, name: str, drawn: figures.Drawing) -> figures.Drawing:
        """Keeps ``drawn`` for the Markdown's folder of figures, and returns it."""
        self.drawings[name] = drawn
        return drawn

    def context(self) -> dict[str, Any]:
        """Variables of both templates."""
        results = self.results
        ends = [a for a in results.averages() if a.epoch in (0, self.last)]
        caption = f"Every network after {self.last} epochs and every simple method, over {ends[0].pictures} pictures."
        return {
            "results": results,
            "last": self.last,
            "pictures_measured": ends[0].pictures,
            "facts": self._facts(),
            "truth": self._truth(),
            "course": self._course() if self.has(BASE) else None,
            "parts": [part for number, title in _PARTS.items() if (part := self._part(number, title))],
            "viewer": self._viewer("input", self._main()),
            "shown": [Shot(f"{i}-input", "", name) for i, name in enumerate(results.shown)],
            "aspect": self._aspect(),
            "judged": self.judged,
            "tally": [(v, words, sum(j.finding.verdict == v for j in self.judged)) for v, words in _VERDICTS.items()],
            "everything": tables.everything(results, ends, "everything", caption),
            "epochs": tables.everything(
                results, results.averages(), "averages", "Every network after every kept epoch.", epochs=True
            ),
            "networks": tables.networks(results.networks),
            "settings": self._settings(),
            "duration": duration(sum(results.seconds.values())),
        }

    def _main(self) -> str:
        """Part of the file name for the network that the page shows first."""
        return slug(Source(BASE if self.has(BASE) else self.results.variants[0], 0, self.last))

    def _aspect(self) -> float:
        with Image.open(self.folder.picture(0, Source("input")), formats=formats.allowed()) as image:
            return round(image.width / image.height, 4)

    def _facts(self) -> list[tuple[str, str, str]]:
        """Figures of the summary: text, small note beside it, and meaning."""
        facts = []
        base = self.results.average(BASE, self.last)
        if base and "psnr_reference" in base.intervals:
            low, high = base.intervals["psnr_reference"]
            value = f"{base.means['psnr_reference']:.2f} dB"
            facts.append((value, f"[{low:.2f}, {high:.2f}]", "base against true references"))
        if base:
            facts.append(
                (f"{base.means['psnr_autocontrast']:.2f} dB", "", "base against autocontrast, which is no ground truth")
            )
        held = sum(judged.finding.verdict == "holds" for judged in self.judged)
        facts.append((str(held), f"of {len(self.judged)}", "of the report's claims hold here"))
        facts.append((duration(self.results.seconds["training"]), "", f"of training, {len(self.results.variants)} networks"))
        return facts

    def _truth(self) -> str:
        """Sentence about the true references beside autocontrast."""
        plain, base = self.results.average("autocontrast"), self.results.average(BASE, self.last)
        if not self.results.has_references or plain is None:
            return "These pictures have no true references, so nothing here says whether one result is better than another."
        words = (
            f"Autocontrast itself, the stand-in, is {plain.means['psnr_reference']:.2f} dB and SSIM"
            f" {plain.means['ssim_reference']:.3f} away from the true references."
        )
        if base is None or len(self.results.epochs) < 2:
            return words
        first = self.results.average(BASE, self.results.epochs[0])
        courses = [
            f"against {figures.AGAINST[t]} from {first.means[f'psnr_{t}']:.2f} to {base.means[f'psnr_{t}']:.2f} dB"
            for t in ("autocontrast", "reference")
            if first
        ]
        return f"{words} From epoch {self.results.epochs[0]} to {self.last} base goes {' and '.join(courses)}."

    def _course(self) -> dict[str, Any]:
        """Part 1."""
        results = self.results
        rows = [
            [*self._plain(i), *(self._shot(i, Source(BASE, 0, epoch), f"epoch {epoch}") for epoch in results.epochs)]
            for i in range(len(results.shown))
        ]
        end = slug(Source(BASE, 0, self.last))
        first = slug(Source(BASE, 0, results.epochs[0]))
        choices = [*self._plain_choices(), *((slug(Source(BASE, 0, e)), f"Base, epoch {e}") for e in results.epochs)]
        return {
            "words": self._course_words(),
            "losses": self.drawing("losses-base", figures.losses(results, BASE)),
            "likeness": self.drawing("course", figures.course(results, self.published)),
            "table": tables.course(results, self.published),
            "rows": rows,
            "viewer": Viewer(choices, first, end),
            "maps": self._maps(BASE),
            "pictures": tables.pictures(results, BASE),
        }

    def _course_words(self) -> str:
        averages = [a for epoch in self.results.epochs if (a := self.results.average(BASE, epoch))]
        best, structural = (max(averages, key=_by(f"{m}_autocontrast")) for m in ("psnr", "ssim"))
        words = (
            f"PSNR against autocontrast is highest after {best.epoch} epochs, {best.means['psnr_autocontrast']:.2f} dB, and"
            f" {averages[-1].means['psnr_autocontrast']:.2f} dB at the end; SSIM is highest after {structural.epoch},"
            f" {structural.means['ssim_autocontrast']:.3f}, and {averages[-1].means['ssim_autocontrast']:.3f} at the end."
        )
        if self.results.has_references:
            true = max(averages, key=_by("psnr_reference"))
            words += (
                f" The pictures are nearest to the true references after {true.epoch}, {true.means['psnr_reference']:.2f} dB."
            )
        light = ", ".join(f"{a.means['brightness']:.2f} after {a.epoch}" for a in averages)
        return f"{words} Mean brightness is {light}. {self._held('1')}"

    def _held(self, part: str) -> str:
        verdicts = [judged.finding.verdict for judged in self.judged if judged.claim.part == part]
        counts = ", ".join(f"{verdicts.count(verdict)} {_VERDICTS[verdict]}" for verdict in _VERDICTS if verdict in verdicts)
        return f"Of the {len(verdicts)} claims of this part {counts}."

    def _part(self, number: str, title: str) -> Part | None:
        """Part 2, 3 or beyond; None if none of its variants was trained."""
        names = [name for name in self.results.variants if VARIANTS[name].part == number]
        if not names:
            return None
        methods = [*([BASE] if self.has(BASE) else []), *names]
        choices = [(slug(Source(m, 0, self.last)), m.capitalize() if m == BASE else m) for m in methods]
        viewer = Viewer([*self._plain_choices(), *choices], choices[0][0], choices[-1][0])
        drawn = figures.comparison(self.results, methods, self.published, f"part-{number}")
        return Part(
            number,
            title,
            self._part_words(number, methods),
            self.drawing(f"part-{number}", drawn),
            tables.ablations(self.results, self.published, methods, f"part-{number}"),
            viewer,
            [self._ablation(name) for name in names],
        )

    def _part_words(self, number: str, methods: Sequence[str]) -> str:
        averages = [a for method in methods if (a := self.results.average(method, self.last))]
        words = []
        for target in ("autocontrast", "reference"):
            if target == "reference" and not self.results.has_references:
                continue
            ranked = sorted(averages, key=_by(f"psnr_{target}"), reverse=True)
            listed = ", ".join(f"{a.method} {a.means[f'psnr_{target}']:.2f}" for a in ranked)
            words.append(f"By PSNR against {figures.AGAINST[target]}, in dB: {listed}.")
        return " ".join([*words, *([self._held(number)] if number in {j.claim.part for j in self.judged} else [])])

    def _ablation(self, name: str) -> Ablation:
        source = Source(name, 0, self.last)
        rows = []
        for i in range(len(self.results.shown)):
            base = [self._shot(i, Source(BASE, 0, self.last), "Enhanced (base)")] if self.has(BASE) else []
            rows.append(
                [self._shot(i, Source("input"), "Original"), *base, self._shot(i, source, f"New implementation ({name})")]
            )
        return Ablation(
            name,
            VARIANTS[name].summary,
            self._ablation_words(name),
            self.drawing(f"losses-{name}", figures.losses(self.results, name)),
            rows,
            self._maps(name)[:1],
            tables.pictures(self.results, name),
        )

    def _ablation_words(self, name: str) -> str:
        """Sentence about a variant's differences from base."""
        own, base = self.results.average(name, self.last), self.results.average(BASE, self.last)
        if own is None or base is None:
            return ""
        shown = {"brightness": 3, "contrast": 3, "saturation": 3, "yellowness": 2, "noise": 2, "sharpness": 2, "order_error": 1}
        parts = [f"{_WORDS[m]} {own.means[m]:.{digits}f} ({base.means[m]:.{digits}f})" for m, digits in shown.items()]
        return f"Base's in brackets: {', '.join(parts)}."

    def _plain(self, i: int) -> list[Shot]:
        names = [n for n in _LABELS if n != "reference" or self.results.has_references]
        return [self._shot(i, Source(name), _LABELS[name]) for name in names]

    def _plain_choices(self) -> list[tuple[str, str]]:
        return [(name, label) for name, label in _LABELS.items() if name != "reference" or self.results.has_references]

    def _viewer(self, left: str, right: str) -> Viewer:
        choices = [(slug(Source(v, 0, self.last)), v.capitalize() if v == BASE else v) for v in self.results.variants]
        # Results of older versions may have fewer measures.
        others = [name for name in USUAL if name not in _LABELS and self.results.average(name)]
        simple = [(slug(Source(name)), name[0].upper() + name[1:]) for name in others]
        return Viewer([*self._plain_choices(), *simple, *choices], left, right)

    def _shot(self, i: int, source: Source, label: str) -> Shot:
        return Shot(f"{i}-{slug(source)}", label, f"{self.results.shown[i]}: {label}")

    def _maps(self, variant: str) -> list[Shot]:
        source = Source(variant, 0, self.last)
        return [
            Shot(f"{i}-{slug(source)}-maps", name, f"{name}: curve maps of {variant}")
            for i, name in enumerate(self.results.shown)
        ]

    def _settings(self) -> list[tuple[str, str]]:
        """Settings for a reader who repeats the study."""
        settings, environment = self.results.settings, self.results.environment
        times = ", ".join(f"{kind} {duration(seconds)}" for kind, seconds in self.results.seconds.items())
        own = {name: settings[name] for name in ("normalization", "epochs", "size", "batch_size", "lr", "seeds")}
        return [
            ("Pictures", "the built-in sample" if settings["data"] == SAMPLE else settings["data"]),
            ("Trained on", f"{settings['training pictures']} pictures"),
            *((name.replace("_", " ").capitalize(), str(value)) for name, value in own.items()),
            ("Measured at", "full size" if settings["side"] is None else f"{settings['side']} pixels"),
            ("Time", times),
            ("Machine", f"{environment['processor']}, {environment['threads']} threads"),
            ("Versions", ", ".join(f"{name} {environment[name]}" for name in ("zdce", "torch", "python"))),
        ]


_VERDICTS: dict[claims.Verdict, str] = {"holds": "hold", "does not hold": "do not hold", "not decidable": "can't be decided"}
_WORDS = {"sharpness": "gradient", "order_error": "order error", "yellowness": "yellow"}
_WORDS |= {name: name for name in ("brightness", "contrast", "saturation", "noise")}
_PARTS = {
    "2": "What each loss is for",
    "3": "Other networks",
    "beyond": "Beyond the report",
}


def _by(measure: str) -> Any:
    return lambda average: average.means[measure]


def write(folder: Path) -> Path:
    """Writes the page of the results in ``folder`` and returns the path of its HTML file.

    Raises:
        FileNotFoundError: there are no results, or one of their pictures is missing.
        ValueError: the results are broken.
    """
    page = Page(StudyFolder(folder))
    context = page.context()
    _write_numbers(page)
    text = _environment().get_template("report.html.jinja").render(context, pictures=_embedded(folder))
    atomic.write_text(folder / "report.html", text)
    _write_sheets(page.folder, context)
    _write_markdown(page, context, folder, with_pictures=True)
    return folder / "report.html"


def publish(folder: Path, out: Path) -> Path:
    """Writes the Markdown of the results in ``folder`` with charts and without pictures, and returns its path in ``out``.

    For results that may be shown where the pictures, by their licence, may not.

    Raises:
        FileNotFoundError, ValueError: as ``write``.
    """
    page = Page(StudyFolder(folder))
    return _write_markdown(page, page.context(), out, with_pictures=False)


def _write_markdown(page: Page, context: dict[str, Any], out: Path, *, with_pictures: bool) -> Path:
    """Writes ``report.md`` and its charts."""
    for name, drawing in page.drawings.items():
        atomic.write_bytes(out / "figures" / f"{name}.png", drawing.png)
    text = _environment().get_template("report.md.jinja").render(context, with_pictures=with_pictures)
    atomic.write_text(out / "report.md", text)
    return out / "report.md"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("zdce.study"),
        autoescape=lambda name: name is None or ".html" in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = lambda drawing: Markup(drawing.svg)
    # In Markdown, where only < and & would be HTML's.
    environment.filters["cell"] = lambda text: html.escape(str(text), quote=False).replace("|", "\\|")
    environment.filters["dashed"] = lambda text: text.replace(" ", "-")
    return environment


def _embedded(folder: Path) -> Markup:
    """All pictures by name as a JSON object of data URLs, escaped for a script element."""
    found = {
        path.stem: "data:image/webp;base64," + base64.b64encode(path.read_bytes()).decode()
        for path in sorted((folder / "pictures").glob("*.webp"))
    }
    return Markup(json.dumps(found).replace("<", "\\u003c"))


def _write_numbers(page: Page) -> None:
    """Writes ``averages.csv``, ``claims.csv`` and ``claims.json`` into the folder of results."""
    averages = [to_json(average) for average in page.results.averages()]
    judged = [
        {"claim": j.claim.name, "part": j.claim.part, "text": j.claim.text, "verdict": j.finding.verdict,
         "figure": j.finding.figure, "rule": j.claim.rule}
        for j in page.judged
    ]  # fmt: skip
    for name, rows in (("averages.csv", averages), ("claims.csv", judged)):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic.write_text(page.folder.results / name, text.getvalue())
    atomic.write_text(page.folder.results / "claims.json", json.dumps(judged, indent=2) + "\n")


def _write_sheets(folder: StudyFolder, context: dict[str, Any]) -> None:
    """Writes the grids as PNG files: base over epochs, and each variant beside base."""
    grids = {"grid-base": context["course"]["rows"]} if context["course"] else {}
    grids |= {f"grid-{ablation.name}": ablation.rows for part in context["parts"] for ablation in part.ablations}
    for name, rows in grids.items():
        encoded = io.BytesIO()
        sheet([[_labelled(folder.path / "pictures", shot) for shot in row] for row in rows]).save(encoded, "PNG")
        atomic.write_bytes(folder.path / "figures" / f"{name}.png", encoded.getvalue())


def _labelled(pictures: Path, shot: Shot) -> Labelled:
    with Image.open(pictures / f"{shot.key}.webp", formats=("WEBP",)) as image:
        return Labelled(image.convert("RGB"), shot.label)
