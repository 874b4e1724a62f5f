"""The command `netassay`: its entry point is `main`, its verbs are in `commands`."""

from netassay.cli.main import main

__all__ = ["main"]
