"""`fastcifar doctor`."""

import json
from typing import Annotated

import typer

COLOURS = {"ok": "green", "note": "yellow", "missing": "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Say what was found here, what a run would use of it and why, and how to mend what is missing."""
    from fastcifar.doctor import as_dict, examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps(as_dict(findings), indent=2))
        return
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        explanation = f" ({finding.mend})" if finding.mend else ""
        status = typer.style(f"{finding.status:<7}", fg=COLOURS[finding.status])
        typer.echo(f"{status} {finding.topic:<{width}}  {finding.found}{explanation}")
