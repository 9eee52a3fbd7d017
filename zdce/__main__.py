"""Start of the command line, as ``zdce`` and as ``python -m zdce``."""

from zdce.runtime import signals


def main() -> None:
    """Run the command line; Ctrl-C and SIGTERM are one line from here on, while modules are imported too."""
    signals.end_at_once()
    from zdce.cli import main as command_line

    command_line(prog_name="zdce")


if __name__ == "__main__":
    main()
