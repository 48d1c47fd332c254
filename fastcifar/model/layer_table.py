"""The layers of a network as a table, for a terminal and in Markdown; columns in the order torchsummary made known."""

import math

from fastcifar.model.summary import LayerRow, Summary

HEADINGS = (
    "Layer (type)",
    "Output Shape",
    "Param #",
    "MACs",
    "Kernel",
    "Stride",
    "Pad",
    "Dil",
    "Groups",
    "Jump",
    "RF",
)
LEFT = 2
"""So many columns are words and lean left; the others are numbers."""


def text_lines(summary: Summary, width: int | None = None) -> list[str]:
    """The table and the totals, as wide as their content; in a narrower width long names of layers lose their front."""
    rows = [cells_of(row) for row in summary.layers]
    if width is not None:
        others = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(1, len(HEADINGS))]
        most = width - sum(others) - len(others)
        rows = [(_shortened(row, most), *cells[1:]) for row, cells in zip(summary.layers, rows, strict=True)]
    widths = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(len(HEADINGS))]
    rule = "-" * (sum(widths) + len(widths) - 1)

    def line(cells: tuple[str, ...]) -> str:
        padded = [
            f"{cell:<{width}}" if column < LEFT else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return " ".join(padded).rstrip()

    totals = totals_of(summary)
    longest = max(len(name) for name, _ in totals)
    return [
        rule,
        line(HEADINGS),
        rule,
        *(line(row) for row in rows),
        rule,
        *(f"{name + ':':<{longest + 1}} {value}" for name, value in totals),
    ]


def markdown_lines(summary: Summary) -> list[str]:
    """The same for a README."""
    lines = [
        f"| {' | '.join(HEADINGS)} |",
        "|---|---|" + "---:|" * (len(HEADINGS) - LEFT),
        *(f"| {' | '.join(cells_of(row))} |" for row in summary.layers),
        "",
    ]
    return lines + [f"- {name}: {value}" for name, value in totals_of(summary)]


def totals_of(summary: Summary) -> list[tuple[str, str]]:
    """Names and values of what stands below the table."""
    side = summary.image_size
    lines = [
        ("Total params", f"{summary.parameters:,}"),
        ("Trainable params", f"{summary.trainable_parameters:,}"),
        ("Non-trainable params", f"{summary.parameters - summary.trainable_parameters:,}"),
        ("MACs", f"{summary.macs:,} for one 3x{side}x{side} image"),
        ("Receptive field", field_text(summary.receptive_field, summary.receptive_field_note)),
        ("By the formula", _formula_text(summary)),
        ("Params size", f"{summary.parameters_mib:.2f} MiB in float32"),
        ("Activations size", f"{summary.activations_mib:.2f} MiB in float32, all outputs above"),
    ]
    left = summary.parameters - sum(row.parameters for row in summary.layers)
    return lines + ([("Not run", f"{left:,} params are of no layer above")] if left else [])


def field_text(field: float | None, note: str | None) -> str:
    """The proven receptive field in words."""
    if field is None:
        return f"unknown: {note}"
    seen = "the whole image, however large" if math.isinf(field) else f"{field} pixels"
    return f"{seen}, proven by the support of the input gradient"


def _formula_text(summary: Summary) -> str:
    field = summary.receptive_field_formula
    if field is None:
        return "unknown: an operator on the way, or the end of the maps, is none that the formula knows"
    return "the whole image, however large" if math.isinf(field) else f"{field} pixels, along the longest path"


def cells_of(row: LayerRow) -> tuple[str, ...]:
    """A row of the table, a text under each of `HEADINGS`."""
    return (
        _called(row.name, row.type),
        str([-1, *row.output_shape[1:]]) if row.output_shape else "-",
        f"{row.parameters:,}",
        f"{row.macs:,}",
        "x".join(map(str, row.kernel)) if row.kernel else "",
        _pair(row.stride),
        _pair(row.padding),
        _pair(row.dilation),
        "" if row.groups is None else str(row.groups),
        "" if row.jump is None or row.receptive_field == math.inf else str(row.jump),
        _number(row.receptive_field),
    )


def _called(name: str, type: str) -> str:
    return f"{name} ({type})".lstrip()


def _shortened(row: LayerRow, most: int) -> str:
    """The layer's name without its front, where it would be longer; at least the type and a few letters stay."""
    spare = max(4, most - len(_called("", row.type)) - 1)
    name = row.name if len(row.name) <= spare else "…" + row.name[1 - spare :]
    return _called(name, row.type)


def _pair(value: tuple[int, int] | None) -> str:
    """One number where rows and columns agree."""
    if value is None:
        return ""
    return str(value[0]) if value[0] == value[1] else f"{value[0]}x{value[1]}"


def _number(field: float | None) -> str:
    if field is None:
        return "?"
    return "all" if math.isinf(field) else str(field)
