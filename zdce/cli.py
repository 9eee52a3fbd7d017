"""The command line: each command (``zdce/commands``) reads its options, calls the package, and prints.

A command is imported when it is used, so that help does not wait for PyTorch.
"""

import click

from zdce.commands.group import Commands, Lazy
from zdce.runtime import allocator
from zdce.version import __version__

# Where each command is, and the first sentence of its help.
COMMANDS = {
    "train": Lazy("zdce.commands.train:train", "Train a network without references.", on_torch=True),
    "eval": Lazy("zdce.commands.evaluate:evaluate", "Measure a network on pictures, beside simple methods.", on_torch=True),
    "enhance": Lazy("zdce.commands.enhance:enhance", "Brighten dark pictures and videos."),
    "live": Lazy("zdce.commands.live:live", "Brighten live video of a camera, an address or a file."),
    "serve": Lazy("zdce.commands.serve:serve", "Serve a page to try networks on, and an interface for programs."),
    "study": Lazy("zdce.commands.study:run_study", "Train and measure the whole report, and write its page.", on_torch=True),
    "report": Lazy("zdce.commands.study:report", "Write the page of a finished study again.", on_torch=True),
    "bench": Lazy("zdce.commands.bench:bench", "Measure speed and memory beside other libraries.", on_torch=True),
    "import": Lazy("zdce.commands.imports:import_weights", "Convert weights of other code.", on_torch=True),
    "export": Lazy("zdce.commands.exports:export", "Write a network for other programs.", on_torch=True),
    "variants": Lazy("zdce.commands.facts:list_variants", "List the networks, and which come with trained weights."),
    "photographs": Lazy("zdce.commands.photographs:list_photographs", "List the open photographs to train on.", on_torch=True),
    "info": Lazy("zdce.commands.facts:info", "Show versions, backends, instruction set and threads."),
}


@click.group(cls=Commands, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="zdce")
def main() -> None:
    """Zero-reference low-light image enhancement."""
    allocator.keep_freed_memory()


if __name__ == "__main__":
    main()
