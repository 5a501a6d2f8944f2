"""The command ``doctor``."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Final

import click

from ea_arrow.cli import output
from ea_arrow.cli.options import open_project, project_option, suggested

if TYPE_CHECKING:
    from pathlib import Path

    from ea_arrow.doctor import Examination, Finding

FAILED: Final = 1


@click.command()
@click.argument("name", required=False)
@click.option(
    "-v", "--verbose", is_flag=True, help="List notes, what was looked for and the evidence."
)
@project_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print.",
)
def doctor(name: str | None, verbose: bool, directory: Path | None, form: str) -> None:
    """Find mistakes in iteration NAME, or in all, and say how to mend them.

    Each way to misread a file is tried: boxes in another order, fractions as pixels, shifted class
    numbers and more; what fits the labels far better is proposed, with what AP50 would become.
    Of several iterations those with mistakes are shown, without notes, and a line for each at the
    end. Exit code 1 if anything is wrong.

    \b
    Examples:  ea-arrow doctor
               ea-arrow doctor epoch-3 --verbose
               ea-arrow doctor --format json
    """
    from ea_arrow.doctor import examination

    project = open_project(directory)
    names = [name] if name else list(project.iterations)
    if not names:
        command = suggested("import", "PREDICTIONS", directory=directory)
        output.note(f"No iterations yet. Next: {command}")
    examined = []
    for each in names:
        found = examination(project, each)
        examined.append(found)
        if form == "table" and (len(names) == 1 or verbose or found.failed):
            _show(found, directory, verbose=verbose, notes=verbose or len(names) == 1)
            if len(names) > 1:
                click.echo()
    if form == "table" and len(names) > 1:
        _summarise(examined, verbose=verbose)
    if form == "json":
        click.echo(json.dumps([found.to_dict() for found in examined], indent=2, allow_nan=False))
    if any(found.failed for found in examined):
        sys.exit(FAILED)


def _summarise(examined: list[Examination], *, verbose: bool) -> None:
    """A line per iteration, and what was not shown."""
    name = "AP50 of boxes" if any(found.shapes for found in examined) else "AP50"
    severities = ("error", "warning", "note")
    counts = [
        [sum(finding.severity == one for finding in found.findings) for one in severities]
        for found in examined
    ]
    rows = [[e.iteration, e.ap50, *numbers] for e, numbers in zip(examined, counts, strict=True)]
    output.show(["iteration", name, "errors", "warnings", "notes"], rows)
    notes = sum(numbers[-1] for numbers in counts)
    if notes and not verbose:
        output.note(f"{output.counted(notes, 'note')} not shown; -v shows them.")


def _show(found: Examination, directory: Path | None, *, verbose: bool, notes: bool) -> None:
    checks = output.counted(len(found.checks), "check")
    if not found.checks:
        click.echo(f"'{found.iteration}' has no predictions of objects: nothing to check.")
        return
    if not found.failed:
        click.echo(f"No mistakes found in '{found.iteration}' ({checks}).")
    else:
        number = sum(finding.failed for finding in found.findings)
        click.echo(f"{output.counted(number, 'mistake')} found in '{found.iteration}' ({checks}).")
    if found.sampled is not None:
        click.echo(f"  Looked at a sample: {found.sampled:,} of {found.data_units:,} data units.")
    if found.ap50 is None:
        click.echo("  No labels to compare with: how the file is read was not tried.")
    for finding in found.findings:
        if notes or finding.failed:
            _show_one(finding, directory, of=" of boxes" if found.shapes else "", verbose=verbose)
    if verbose:
        click.echo(f"  Looked for, with {output.counted(found.trials, 'trial')}:")
        for check in found.checks:
            click.echo(f"    {check}")


def _show_one(finding: Finding, directory: Path | None, *, of: str, verbose: bool) -> None:
    click.echo(f"  {finding.severity} {finding.kind}: {output.cell(finding.message, None)}")
    for name, now, then in (
        ("AP50", finding.ap50_now, finding.ap50_then),
        ("AP", finding.ap_now, finding.ap_then),
    ):
        if now is not None:
            change = (
                f" → {_number(then)}" if then is not None and _number(then) != _number(now) else ""
            )
            click.echo(f"    {name}{of} {_number(now)}{change}")
    if verbose and finding.evidence:
        click.echo(f"    evidence: {output.cell(finding.evidence, None)}")
    if finding.fix:
        click.echo(f"    fix: {_command(finding, directory)}")
    if finding.remark:
        click.echo(f"      {output.cell(finding.remark, None)}")


def _number(value: float) -> str:
    """With four digits: further ones are those of noise."""
    return f"{value:.4f}"


def _command(finding: Finding, directory: Path | None) -> str:
    """The fix as a line to paste."""
    if isinstance(finding.fix, str) or finding.fix is None:
        return finding.fix or ""
    command = suggested(*finding.fix[1:], directory=directory)
    if finding.file is None:
        return command
    name, content = finding.file
    return f"printf %s {shlex.quote(content)} > {shlex.quote(name)} && {command}"
