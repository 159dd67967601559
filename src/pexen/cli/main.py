"""``pexen``: finds the command and lets its module do the rest; turns what goes wrong into a message and an exit code.

Most of the time that ``pexen --help`` takes is the interpreter's: neither click nor more of pexen than exit codes is imported.
Each command is a click command in a module of its own, imported when it is called for.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

from pexen.usecase.codes import GOOD, complain, interrupted

TYPE_CHECKING = False  # typing costs as much as the rest of this module
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

COMMANDS = {
    "run": "run tasks, in the right order and in parallel",
    "list": "show the tasks of a tree",
    "graph": "show what depends on what, for dot or mermaid",
    "explain": "tell everything that is known of one task",
    "status": "show where a run stands, from its record",
    "resume": "take up a run that was stopped or killed",
    "report": "write reports of a run, from its record",
    "history": "show how long tasks took over the runs, and which are flaky",
    "compare": "show what a run has broken, fixed or made slower",
    "clean": "remove the records of old runs",
    "doctor": "show what this machine allows, and what that means",
    "shell-helper": "print functions for shell scripts that report to their run",
}
"""Every command: its module is ``pexen.cli.<name>``, with ``_`` for ``-``."""

_HELP = """\
usage: pexen [-C DIR] COMMAND [OPTIONS] [PATH | package.module | KIND:WHAT]... [-- ARGS]

Runs any callables and any executables, in the right order and in parallel.

commands:
{commands}

options:
  -C DIR         change to DIR first
  -h, --help     this text; `pexen COMMAND --help` tells the options of a command
  -V, --version  the version

exit codes: 0 good, 1 something failed, 2 interrupted, 3 internal error, 4 usage or definition error,
            5 nothing selected, 6 stopped on purpose and resumable
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; without ``argv`` this is the program, and the process ends here."""
    if argv is not None:
        return _main(list(argv))
    gc.disable()  # what is imported and collected stays; `pexen.cli.drive` enables it again
    return _leave(_main(sys.argv[1:], is_program=True))


def _leave(code: int) -> NoReturn:
    """End the process. Taking the interpreter apart would cost a seventh of a short run, and nobody needs it."""
    atexit._run_exitfuncs()  # noqa: SLF001 - as the interpreter does
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # there is none, or it has been closed
            continue
    os._exit(code)


def _main(words: list[str], *, is_program: bool = False) -> int:
    _open_streams()
    leading = []
    while words and words[0].startswith("-C"):  # as in make and git, before the command
        many = 2 if words[0] == "-C" else 1
        leading += words[:many]
        del words[:many]
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in {"-h", "--help"}:
        words[:1] = ["--help"]
    try:
        if is_program and words[0] in {"run", "resume"}:
            from pexen.cli.guardian import guarded

            return guarded(lambda: _command(words[0], leading + words[1:]))
        return _command(words[0], leading + words[1:])
    except BrokenPipeError:
        _give_up_stdout()
        return GOOD
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:  # noqa: BLE001 - the last place to say what went wrong
        return _failed(error)
    finally:
        _flush()


def _open_streams() -> None:
    """Open what is closed of descriptors 0 to 2, or files opened later would be taken for standard streams."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:  # print would take standard output instead
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good


def _command(name: str, words: list[str]) -> int:
    """Run one command."""
    if name == "--help":
        print(_HELP.format(commands="\n".join(f"  {name:13}  {about}" for name, about in COMMANDS.items())), end="")
        return GOOD
    if name in {"-V", "--version"}:
        from pexen import __version__

        print(f"pexen {__version__}")
        return GOOD
    from importlib import import_module

    from pexen.errors import DefinitionError, nearest

    if name not in COMMANDS:
        raise DefinitionError(f"there is no command {name!r}", hint=nearest(name, COMMANDS) or "pexen --help")

    import click

    command = import_module(f"pexen.cli.{name.replace('-', '_')}").command
    try:
        # Not click's own main(): it would print and exit where an exit code and an error of ours are wanted.
        before, args = split(words)
        with command.make_context(f"pexen {name}", before, obj=args) as context:
            context.meta["pexen.words"] = words
            return int(command.invoke(context) or GOOD)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        raise DefinitionError(error.format_message(), hint=_hint(error, name)) from None


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return what stands before the first ``--``, and what stands behind it."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _hint(error: Exception, name: str) -> str:
    """Return what to do about an option that other programs have and pexen has not."""
    option = getattr(error, "option_name", "")
    known = {
        "-n": "jobs are -j, as in make",
        "--numprocesses": "jobs are -j, as in make",
        "--keep-going": "that is what it does, unless -x is given",
        "--parallel": "jobs are -j, as in make",
    }
    return known.get(option) or f"pexen {name} --help"


def _failed(error: Exception) -> int:
    """Say what went wrong and return the exit code that it means."""
    from pexen.errors import InternalError, PexenError

    if isinstance(error, PexenError):
        return complain(error)
    if os.environ.get("PEXEN_DEBUG"):
        import traceback

        traceback.print_exception(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = [("at", f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")] if trace else []
    return complain(
        InternalError(f"{type(error).__name__}: {error}", facts=[*where, ("traceback", "set PEXEN_DEBUG=1")])
    )


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
    except (AttributeError, OSError, ValueError):  # there is none, or it has been closed
        return


def _give_up_stdout() -> None:
    """Let whatever is still to be written to a closed pipe go nowhere, without a complaint at exit."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.close(sink)
