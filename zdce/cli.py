"""The command line: each command (``zdce/commands``) reads its options, calls the package, and prints.

A command is imported when it is used, so that help does not wait for PyTorch.
"""

import click

from zdce import backends
from zdce.commands.group import Commands, Lazy
from zdce.runtime import allocator
from zdce.version import __version__

# Where each command is, and the first sentence of its help.
COMMANDS = {
    "train": Lazy("zdce.commands.train:train", "Train a network without reference images.", on_torch=True),
    "eval": Lazy("zdce.commands.evaluate:evaluate", "Measure networks on pictures, beside simple methods.", on_torch=True),
    "enhance": Lazy("zdce.commands.enhance:enhance", "Brighten dark pictures and videos."),
    "live": Lazy("zdce.commands.live:live", "Brighten live video from a camera, an address or a file."),
    "serve": Lazy("zdce.commands.serve:serve", "Serve a page to brighten photographs on, and an HTTP interface."),
    "study": Lazy("zdce.commands.study:run_study", "Reproduce the report: train, measure, test its claims.", on_torch=True),
    "report": Lazy("zdce.commands.study:report", "Write the page of a finished study again.", on_torch=True),
    "bench": Lazy("zdce.commands.bench:bench", "Measure speed and memory, beside other libraries.", on_torch=True),
    "import": Lazy("zdce.commands.imports:import_weights", "Convert weights of other programs.", on_torch=True),
    "export": Lazy("zdce.commands.exports:export", "Write a network for other programs.", on_torch=True),
    "variants": Lazy("zdce.commands.facts:list_variants", "List the networks and whether they come with weights."),
    "photographs": Lazy("zdce.commands.photographs:list_photographs", "List the open photographs to train on.", on_torch=True),
    "info": Lazy("zdce.commands.facts:info", "Show versions, backends, instruction set and threads."),
}


@click.group(cls=Commands, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="zdce")
def main() -> None:
    """Brighten dark photographs and videos, and train the networks that do it (zero-reference enhancement, Zero-DCE).

    Exit codes: 0 done; 1 a wrong file, network or name, or an option that does not suit them, in one line; 2 an option that is
    wrong by itself or excludes another; 70 a bug of zdce, with its traceback; 130 Ctrl-C; 143 SIGTERM; 129 SIGHUP. ZDCE_DEBUG=1
    shows every traceback.
    """
    allocator.keep_freed_memory()
    backends.check_instruction_set()
