"""`zdce bench`, whose commands are imported when they are used."""

import click

from zdce.commands.group import Commands, Lazy

# Where each command is, and the first sentence of its help.
COMMANDS = {
    "browser": Lazy("zdce.commands.bench_programs:bench_browser", "Measure the engine for browsers in Chromium."),
    "flicker": Lazy("zdce.commands.bench_programs:bench_flicker", "Measure the flicker of videos and bursts of pictures."),
    "folder": Lazy("zdce.commands.bench_programs:bench_folder", "Measure pictures per second of `zdce enhance PICTURES`."),
    "infer": Lazy("zdce.commands.bench_networks:bench_infer", "Measure whole networks beside other libraries."),
    "layers": Lazy("zdce.commands.bench_operations:bench_layers", "Measure each convolution of the networks on one core."),
    "live": Lazy("zdce.commands.bench_programs:bench_live", "Measure the latency of `zdce live`."),
    "ops": Lazy("zdce.commands.bench_operations:bench_ops", "Measure operations beside eager and compiled PyTorch."),
    "scales": Lazy("zdce.commands.bench_networks:bench_scales", "Measure accuracy and speed at each --scale."),
    "startup": Lazy("zdce.commands.bench_programs:bench_startup", "Measure time and memory of whole processes."),
    "static": Lazy("zdce.commands.bench_operations:bench_static", "Compile the GPU kernels and show the compilers' reports."),
    "threads": Lazy("zdce.commands.bench_networks:bench_threads", "Predict the engine's efficiency on 1 to 128 processors."),
    "train": Lazy("zdce.commands.bench_networks:bench_train", "Measure whole training steps beside PyTorch."),
}


@click.group(cls=Commands, lazy=COMMANDS)
def bench() -> None:
    """Measure speed and memory, where possible beside other libraries."""
