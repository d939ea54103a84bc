"""The command line. Nothing here imports torch before a verb runs, so that `--help` answers at once."""

from secateur.cli.app import main

__all__ = ["main"]
