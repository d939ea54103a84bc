"""Which Secateur this is; a file of its own, so that every layer can say it."""

__version__ = "0.1.0"
