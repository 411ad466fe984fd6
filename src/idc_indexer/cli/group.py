"""The group of all commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import gc
import io
import os
import sys
import traceback
from itertools import groupby
from typing import Any

import click

import idc_indexer
from idc_indexer.cli.options import Option
from idc_indexer.errors import IndexerError, UsageError, printable

FOUND_PROBLEMS = 3
INTERRUPTED = 130
"""As shells say it: 128 and the number of the signal."""
_AFTER_CTRL_C = {
    "build": "Finished tables stay in <DIR>.incomplete, and what was staged in the cache: the same command continues. "
    "A release that was there before is unchanged.",
    "stage": "What was staged stays in the cache: the same command continues.",
    "publish": "The version may be incomplete: the same command completes it. With --promote, `current` may be between "
    "two versions.",
    "promote": "Every file of `current` is complete, but some may be of the new version and others of the old one: run "
    "the same command again soon, or promote the old version.",
    "adopt": "Nothing was written: run the same command again.",
    "withdraw": "Run the same command again, or look at `idc-indexer status`.",
}
"""The state after Ctrl-C, by command. Commands that are not here only read, or write one file in one step."""

_VERBOSE = f"{__name__}.verbose"
_TASKS = {
    "catalog": "See what can be built",
    "build": "Build a release",
    "staging": "Build a release",
    "compare": "Check a release, see what changed",
    "publish": "Publish a release",
}
"""What the commands of each module are for: `--help` groups them by it."""
_GC_THRESHOLD = 50_000
"""New objects after which Python looks for cycles, in place of 700. Each look passes over the syntax trees of the
queries, which live as long as the command: `explain idc_index` takes 0.86 of the time that it takes without."""


class _Failure(click.ClickException):
    """An error of the library as click shows it."""

    def __init__(self, error: IndexerError) -> None:
        super().__init__(printable(str(error)))
        self.exit_code = 2 if isinstance(error, UsageError) else 1  # type: ignore[misc]  # click means it to be set


def _set_verbose(ctx: click.Context, _: click.Parameter, verbose: bool) -> None:
    ctx.meta[_VERBOSE] = verbose or ctx.meta.get(_VERBOSE, False)


class _Command(click.Command):
    """A command with --verbose, which therefore may stand anywhere on the line."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        about = "Show a traceback when something goes wrong."
        # eager, so that it holds for what other options do
        eager = {"is_flag": True, "is_eager": True, "expose_value": False, "callback": _set_verbose}
        self.params.append(Option(["-v", "--verbose"], help=about, **eager))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        arguments = [one for one in self.params if isinstance(one, click.Argument) and one.envvar]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([(str(one.metavar), f"[env var: {one.envvar}]") for one in arguments])


class _Group(_Command, click.Group):
    command_class = _Command
    group_class = type  # the groups in it are of the same class

    def main(self, *args: Any, **kwargs: Any) -> Any:
        gc.set_threshold(_GC_THRESHOLD)
        for stream in (sys.stdout, sys.stderr):
            # On Windows, a stream that is not a terminal has a code page that lacks most letters. Names of files that
            # are not UTF-8 have surrogates.
            if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
                stream.reconfigure(encoding="utf-8")
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if traceback.extract_tb(error.__traceback__)[-1].filename != click.utils.__file__:
                raise  # not from printing: a defect
            with open(os.devnull, "w") as nothing:  # noqa: PTH123 -- no path of ours
                os.dup2(
                    nothing.fileno(), sys.stdout.fileno()
                )  # or Python fails at its end, over what is still buffered
            click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = printable(error.message)  # type: ignore[misc]  # it quotes arguments, which a shell may have made of file names
            raise
        except KeyboardInterrupt:
            state = _AFTER_CTRL_C.get(ctx.invoked_subcommand or "", "Nothing was changed: run the same command again.")
            click.echo(f"Interrupted. {state}", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except IndexerError as error:
            if ctx.meta.get(_VERBOSE):
                traceback.print_exc()
            raise _Failure(error) from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- the order in which a release needs them
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if ctx.parent:
            super().format_commands(ctx, formatter)
            return
        longest = max(map(len, self.commands))
        for task, names in groupby(self.commands, self._task):
            with formatter.section(task):
                room = formatter.width - longest - 6
                formatter.write_dl(
                    [(name.ljust(longest), self.commands[name].get_short_help_str(room)) for name in names]
                )

    def _task(self, name: str) -> str:
        """What a command is for."""
        return _TASKS.get(self.commands[name].callback.__module__.rpartition(".")[2], "Other commands")


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"Documentation: {idc_indexer.REPOSITORY}#readme",
)
@click.version_option(idc_indexer.__version__)
def main() -> None:
    """Build, verify and publish the indices of NCI Imaging Data Commons.

    The commands below stand in the order in which a release needs them.
    """
