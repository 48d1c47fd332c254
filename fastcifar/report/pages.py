"""A page, its pictures and its README section on disk."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcifar import __version__
from fastcifar.atomic import written_whole
from fastcifar.errors import UsageError
from fastcifar.report.style import write_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_FILE, FIGURES_FOLDER, README_FILE = "report.html", "figures", "README.md"
MARK = "<!-- written by fastcifar report -->"
"""The first line of a README of ours, which may be written over; another one is somebody's work."""


@dataclass(frozen=True)
class Page:
    """What is written.

    Attributes:
        html, readme: names of the two templates.
        content: what both are filled with.
        figures: file name without ending -> figure.
    """

    html: str
    readme: str
    content: dict[str, Any]
    figures: dict[str, "Figure"]


def write_page(page: Page, folder: Path, with_readme: bool) -> list[Path]:
    """Write report.html, figures/*.png and, where wanted, README.md; the page holds its pictures itself.

    Returns:
        The page first, then the README, then the figures.

    Raises:
        UsageError: the place cannot be written to, or holds a README that is not of this command.
    """
    readme = folder / README_FILE
    if with_readme and readme.exists() and not readme.read_text(errors="replace").startswith(MARK):
        raise UsageError(f"{readme}: is not of this command, and is left alone", "name another folder with --output")
    pictures = {name: folder / FIGURES_FOLDER / f"{name}.png" for name in page.figures}
    for name, figure in page.figures.items():
        write_png(figure, pictures[name])
    encoded = {name: base64.b64encode(path.read_bytes()).decode() for name, path in pictures.items()}
    written = [folder / PAGE_FILE, *([readme] if with_readme else []), *pictures.values()]
    _write(folder / PAGE_FILE, _rendered(page.html, page.content | {"pictures": encoded}))
    if with_readme:
        names = {name: f"{FIGURES_FOLDER}/{path.name}" for name, path in pictures.items()}
        _write(readme, f"{MARK}\n{_rendered(page.readme, page.content | {'pictures': names})}")
    return written


def _rendered(template: str, content: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fastcifar.report"),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(content, version=__version__)


def _write(path: Path, text: str) -> None:
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
