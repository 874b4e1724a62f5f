"""The entry point of the command `netassay`.

Exit status: 0; 1 bad input, or measured only in part, one line on standard error (--debug: with traceback); 2 usage;
130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from netassay.cli.commands import group


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        # a terminal that lacks a character shows its escape, never a traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = group.main(words, prog_name="netassay", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("netassay: interrupted", err=True)
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone; nor can the interpreter flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if "--debug" in words:
            import traceback

            traceback.print_exc()
        else:
            click.echo(f"netassay: {_one_line(error)}", err=True)
        return 1
    return status if isinstance(status, int) else 0


def _one_line(error: Exception) -> str:
    from netassay.base.errors import NetassayError
    from netassay.base.text import printable

    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, NetassayError | OSError):
        text = str(error)
    else:
        text = f"unexpected {type(error).__name__}: {error} (--debug shows where)"
    return printable(" ".join(text.split()))
