"""The ``polyb2`` command, and ``python -m polyb2``."""

import gc


def main() -> None:
    """Load the program without looking for garbage, which begins in ``cli/loop.py``, and run the command line."""
    gc.disable()
    from polyb2.cli.main import main as run_command_line  # noqa: PLC0415 - loading is what it is about

    run_command_line()


if __name__ == "__main__":
    main()
