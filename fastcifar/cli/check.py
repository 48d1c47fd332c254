"""`fastcifar check`."""

import json
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from fastcifar.cli.summary import ClassesOption, ImageSizeOption, JsonOption, MarkdownOption, NetworkArgument
from fastcifar.errors import CheckFailedError

if TYPE_CHECKING:
    from fastcifar.model.constraints import Finding

LINE_WIDTH = 100
RULES_HELP = (
    "A rule not to check; repeatable: parameters, no-max-pool, receptive-field, depthwise-separable, dilated, "
    "global-pooling, reductions."
)


def check(
    network: NetworkArgument,
    max_parameters: Annotated[int, typer.Option("--max-parameters", help="There must be fewer.")] = 200_000,
    min_receptive_field: Annotated[
        int, typer.Option("--min-receptive-field", help="It must be larger, in pixels.")
    ] = 44,
    leave_out: Annotated[
        list[str] | None, typer.Option("--leave-out", metavar="RULE", help=RULES_HELP, show_default=False)
    ] = None,
    image_size: ImageSizeOption = 32,
    classes: ClassesOption = None,
    markdown: MarkdownOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check a network against the assignment's rules, with the layers that prove each; exit 6 if one fails."""
    from fastcifar.model.constraints import check_constraints
    from fastcifar.model.find import find_network

    model = find_network(network, classes)
    findings = check_constraints(model, max_parameters, min_receptive_field, leave_out or (), image_size)
    failed = [finding.rule for finding in findings if not finding.holds]
    if as_json:
        rules = [vars(finding) for finding in findings]
        typer.echo(json.dumps({"network": network, "holds": not failed, "rules": rules}, indent=2))
    else:
        typer.echo("\n".join(_markdown(findings) if markdown else _text(findings)))
    if failed:
        count = f"{len(failed)} of {len(findings)} rules"
        raise CheckFailedError(f"{network} breaks {count}: {', '.join(failed)}", "leave a rule out with --leave-out")


def _text(findings: "list[Finding]") -> list[str]:
    width = max((len(finding.demands) for finding in findings), default=0)
    margin = len("BROKEN ") + width + len("  ")
    lines = []
    for finding in findings:
        verdict = typer.style("ok    ", fg="green") if finding.holds else typer.style("BROKEN", fg="red")
        evidence = textwrap.wrap(finding.evidence, LINE_WIDTH - margin)
        lines.append(f"{verdict} {finding.demands:<{width}}  {evidence[0]}")
        lines += [" " * margin + line for line in evidence[1:]]
    return lines


def _markdown(findings: "list[Finding]") -> list[str]:
    rows = [f"| {f.demands} | {'yes' if f.holds else '**no**'} | {f.evidence} |" for f in findings]
    return ["| rule | holds | evidence |", "|---|---|---|", *rows]
