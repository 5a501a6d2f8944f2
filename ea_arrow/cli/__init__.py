"""The ``ea-arrow`` command: parses, calls the public API, prints.

Data goes to stdout and everything else to stderr. Exit codes: 0 done, 1 a check failed, 2 usage or
data error.
"""

from __future__ import annotations

import signal
import sys
import traceback

import click

from ea_arrow import __version__
from ea_arrow.cli import answers, doctor, evidence, export, formats, imports, projects, quality
from ea_arrow.errors import EaArrowError, RejectedRowsError, did_you_mean

CHECK_FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class Commands(click.Group):
    """A group that suggests the nearest command for one it does not know."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command named by the first argument."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = did_you_mean(args[0], self.list_commands(ctx)) or "See 'ea-arrow --help'."
            raise click.UsageError(f"There is no command '{args[0]}'. {near}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ea-arrow")
@click.option("--debug", is_flag=True, help="Show tracebacks. May stand anywhere.")
def cli(debug: bool) -> None:
    """The columnar home of computer-vision model predictions.

    \b
    Try it:          ea-arrow demo
    Make a project:  ea-arrow init my-project --labels instances.json
    In it:           ea-arrow import preds.pkl
                     ea-arrow metrics
                     ea-arrow query "select iteration, outcome, count(*) from matches group by all"
    """
    del debug  # main() has taken it out of the arguments, wherever it stood


for command in (
    *(projects.demo, projects.init, imports.import_, projects.ls, projects.show, projects.rm),
    *(projects.compact, answers.metrics, answers.query, projects.ontology, projects.print_),
    *(evidence.matches, evidence.errors, evidence.confusion, evidence.operating_points),
    *(evidence.curves, evidence.slices, projects.labels, formats.formats),
    *(doctor.doctor, export.export, quality.quality, quality.drivers, quality.quality_metrics),
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if hasattr(signal, "SIGPIPE"):
        # When the reader of a pipe has seen enough, end quietly as other commands do.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        cli.main([a for a in given if a != "--debug"], prog_name="ea-arrow", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        _say("Interrupted. An import publishes all or nothing; 'ea-arrow ls' shows which.")
        sys.exit(INTERRUPTED)
    except EaArrowError as error:
        if debug:
            traceback.print_exc()
        _say(f"Error: {error.message}")
        if error.hint:
            _say(error.hint)
        sys.exit(CHECK_FAILED if isinstance(error, RejectedRowsError) else BAD_INPUT)
    except OSError as error:
        if debug:
            traceback.print_exc()
        _say(f"Error: {error.filename or 'A file'}: {error.strerror or error}.")
        sys.exit(BAD_INPUT)
    except Exception as error:  # noqa: BLE001 - a user never sees a traceback unasked
        if debug:
            traceback.print_exc()
        _say(f"Internal error: {type(error).__name__}: {error}")
        _say("This is a defect of ea-arrow. Run the command again with --debug and report it.")
        sys.exit(BAD_INPUT)


def _say(text: str) -> None:
    """Print what may quote a file: its control characters must not reach the terminal."""
    shown = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    click.echo(shown, err=True)
