"""The command `secateur`: its verbs, exit codes and the two streams.

stdout holds only results, stderr everything else; of several processes that torchrun starts the first alone writes
results. Exit codes: 0 done, 1 failed unexpectedly, 2 bad input, 3 finished
but the verification did not hold, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer

from secateur import __version__
from secateur.cli import (
    bench,
    compare,
    demo,
    evaluate,
    export,
    finetune,
    inspect,
    materialise,
    pack,
    partition,
    prune,
    report,
    run_split,
    search,
    sensitivity,
    train,
    unpack,
    verify,
)
from secateur.cli import list as listing
from secateur.cli.command import Task, command_of
from secateur.cli.outcome import as_json
from secateur.cli.processes import leave, quieten, rank

DONE, FAILED, BAD_INPUT, UNVERIFIED, INTERRUPTED = 0, 1, 2, 3, 130
VERBS = {
    "demo": demo,
    "inspect": inspect,
    "sensitivity": sensitivity,
    "train": train,
    "prune": prune,
    "finetune": finetune,
    "evaluate": evaluate,
    "compare": compare,
    "search": search,
    "materialise": materialise,
    "partition": partition,
    "run-split": run_split,
    "verify": verify,
    "report": report,
    "pack": pack,
    "unpack": unpack,
    "export": export,
    "bench": bench,
    "list": listing,
}


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"secateur {__version__}")
        raise typer.Exit


def secateur(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Options of the command itself; each verb has its own."""


def _application(arguments: Sequence[str]) -> typer.Typer:
    """With all verbs, or with the one that is asked for: to read the options of the others takes time."""
    made = typer.Typer(
        help="Make PyTorch networks physically smaller, and prove that the result is what was asked for.",
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(secateur)
    for name in arguments[:1] if arguments[0] in VERBS else VERBS:
        verb = VERBS[name]
        made.command(name, help=verb.run.__doc__)(command_of(name, verb.Options, verb.run))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    leave(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one verb, write its result to stdout or its error to stderr, and return the exit code."""
    in_json = "--json" in arguments
    quieten()
    try:
        asked = list(arguments) or ["--help"]
        task: Task | int = _application(asked)(asked, prog_name="secateur", standalone_mode=False)
        if isinstance(task, int):  # help or the version was shown
            return task
        outcome = task()
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", INTERRUPTED, in_json=in_json)
    except Exception as error:
        if os.environ.get("SECATEUR_DEBUG"):
            traceback.print_exc()
        return _fail(*_explained(error), in_json=in_json)
    if rank() == 0:
        _say(as_json(outcome.record) if in_json else outcome.text.rstrip("\n"))
    return DONE if outcome.verified else UNVERIFIED


def _say(text: str) -> None:
    """A reader that has seen enough, such as `head`, is no failure."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python still holds goes there at its end


def _explained(error: Exception) -> tuple[str, int]:
    from secateur.spec import SecateurError

    if isinstance(error, SecateurError):
        return str(error), FAILED if isinstance(error, OSError) else BAD_INPUT
    usage = getattr(error, "format_message", None)
    if usage is not None:
        return f"{usage()} (secateur VERB --help lists the options)", BAD_INPUT
    if isinstance(error, OSError):
        return f"the system refused: {error}", FAILED
    return (
        f"failed unexpectedly: {type(error).__name__}: {error}; this is a bug in Secateur or in the model's code "
        "(run again with SECATEUR_DEBUG=1 for the traceback)"
    ), FAILED


def _fail(message: str, code: int, *, in_json: bool) -> int:
    sys.stderr.write(f"secateur{f' (process {rank()})' if rank() else ''}: {message}\n")
    if in_json and rank() == 0:
        sys.stdout.write(as_json({"error": message}) + "\n")
    return code
