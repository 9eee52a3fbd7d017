"""`zdce study` and `zdce report`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from zdce import training
from zdce.commands import options
from zdce.commands.printing import print_table
from zdce.models.variants import VARIANTS
from zdce.ops import NORMALIZATIONS
from zdce.runtime import signals
from zdce.runtime.progress import duration
from zdce.study import run
from zdce.study.settings import REPORTED, preset
from zdce.study.stages import Study, StudyInterruptedError


@click.command("study")
@click.option(
    "--data",
    callback=lambda ctx, parameter, data: data and options.data_source(ctx, parameter, data),
    help="Folder of pictures, or one in LOL's layout (low, high), or `sample`.  [default: a small study of `sample`]",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the study.")
@click.option(
    "--variant",
    "chosen",
    type=click.Choice(list(VARIANTS)),
    multiple=True,
    help="Variant to train; may be repeated.  [default: all nine]",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over all pictures.  [default: 50, or 5 with --quick]")
@click.option(
    "--normalization", type=click.Choice(NORMALIZATIONS), default="keras", help="Normalisation of the illumination term."
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, help="Number of trainings of each variant, with seeds 0, 1, ..."
)
@click.option("--quick", is_flag=True, help="Do every part in about a minute; the results are too few for conclusions.")
@click.option("--plan", "only_plan", is_flag=True, help="Show the remaining work and its estimated time, and do nothing.")
@options.device
def run_study(
    data: str | None,
    out: Path,
    chosen: tuple[str, ...],
    epochs: int | None,
    quick: bool,
    only_plan: bool,
    **given: Any,
) -> None:
    """Reproduce the report (docs/study.md): train base and its eight ablations, measure them, test the report's claims and
    write a page.

    Writes report.html, report.md, results (CSV, JSON) and the runs to OUT. Work is repeated only if its inputs have changed:
    after Ctrl-C (exit code 130; SIGTERM: 143) the same command continues.
    """
    run.check_page()
    settings = replace(preset(data, quick=quick), variants=tuple(dict.fromkeys(chosen)) or REPORTED, **given)
    run.use_threads_for(settings)
    study = Study(settings if epochs is None else replace(settings, epochs=epochs), out)
    stages = study.stages()
    lines = [[p.work, str(p.done), str(p.left), duration(p.seconds) if p.left else ""] for p in run.plan(study, stages)]
    print_table(f"{out}: {len(study.collection.items)} pictures", ["work", "done", "left", "estimated"], lines)
    if only_plan:
        return
    try:
        click.echo(f"report: {run.run(study, stages)}")
    except (StudyInterruptedError, training.TrainingError) as error:
        click.echo(str(error), err=True)
        sys.exit(signals.exit_code(error) if isinstance(error, StudyInterruptedError) else 1)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--publish",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write only the Markdown to: tables and curves, without the pictures, which may not be free to publish.",
)
def report(folder: Path, out: Path | None) -> None:
    """Write the page of the finished study in FOLDER again, from its results and pictures."""
    click.echo(f"report: {run.report(folder) if out is None else run.publish(folder, out)}")
