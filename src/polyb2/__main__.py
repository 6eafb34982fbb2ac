"""``python -m polyb2``: the same program as the ``polyb2`` command."""

from polyb2.cli.main import main

if __name__ == "__main__":
    main()
