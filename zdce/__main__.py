"""Start of the command line, as ``zdce`` and as ``python -m zdce``."""

import os
import sys

from zdce.runtime import signals


def main() -> None:
    """Run the command line; Ctrl-C and SIGTERM are one line from here on, while modules are imported too."""
    _occupy_closed_streams()
    signals.end_at_once()
    from zdce.cli import main as command_line

    command_line(prog_name="zdce")


def _occupy_closed_streams() -> None:
    """Connect closed standard streams to the null device; ``sys.stdin`` and ``sys.stdout`` stay None.

    The next file that is opened would get a closed stream's number, and libraries would write their messages into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:  # click would print errors on standard output
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)


if __name__ == "__main__":
    main()
