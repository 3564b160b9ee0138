"""Draw figures for the documentation that are readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

INK = "#7a7a7a"
"""For text and axes: equally far from white and from black."""

FAINT = "#7a7a7a40"

WIDTH = 4.8
"""Inches of a figure. A phone, 390 pixels wide, shows it at three quarters of its size."""

FONT_SIZE = 11.5
"""Points of all text."""


@attrs.frozen
class Look:
    """The style of a line."""

    color: str
    style: Any = "-"
    width: float = 2.0


OURS = Look("#2f81c9")
OURS_UNKNOWN = Look("#2f81c9", (0, (4, 2)))
LOOP = Look("#c2722a")
BOUND = Look(INK, (0, (1, 1.5)), 1.6)


@attrs.frozen
class Line:
    """A named line of values."""

    name: str
    places: Sequence[float]
    values: Sequence[float]
    look: Look


@attrs.frozen
class Panel:
    """Some lines in one pair of axes.

    Attributes:
        title: The title.
        across: The label of the x axis.
        lines: The lines.
        least: Where both axes start if they are logarithmic; None: linear axes.
    """

    title: str
    across: str
    lines: Sequence[Line]
    least: float | None = None


@contextmanager
def figure(path: Path, *, panels: int, height: float, rows: bool = False) -> Iterator[Any]:
    """Yield the axes of a figure, one below the other, and write it: the same lines give the same file.

    It is so narrow, and its text so large, that no text is smaller than 11 pixels on a phone.

    Args:
        path: Where to write it.
        panels: How many axes there are.
        height: Of each, in inches.
        rows: Whether lines across help to read the values on the x axis, and not the other way round.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {
            "font.size": FONT_SIZE,
            "font.family": "sans-serif",
            "svg.hashsalt": "playai-async",
            **dict.fromkeys(
                ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor"],
                INK,
            ),
        }
    )
    drawn, axes = plt.subplots(panels, 1, figsize=(WIDTH, height * panels), squeeze=False, layout="constrained")
    yield axes[:, 0]
    for one in axes[:, 0]:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="x" if rows else "y", color=FAINT, linewidth=0.8)
        one.set_axisbelow(True)
    drawn.savefig(path, transparent=True, bbox_inches="tight", pad_inches=0.08, metadata={"Date": None})
    plt.close(drawn)


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Draw panels of mean lags."""
    with figure(path, panels=len(panels), height=3.4) as all_axes:
        for axes, panel in zip(all_axes, panels, strict=True):
            for line in panel.lines:
                points = [
                    (place, value)
                    for place, value in zip(line.places, line.values, strict=True)
                    if panel.least is None or value >= panel.least
                ]
                axes.plot(
                    *zip(*points, strict=True),
                    color=line.look.color,
                    linestyle=line.look.style,
                    linewidth=line.look.width,
                    marker="o",
                    markersize=3.5,
                    label=line.name,
                )
            if panel.least is None:
                axes.set_ylim(bottom=-0.5)
            else:
                axes.set_xscale("log")
                axes.set_yscale("log")
                axes.set_ylim(bottom=panel.least)
                axes.yaxis.set_major_formatter("{x:,.0f}")
            places = panel.lines[0].places
            axes.set_xticks(places, [f"{place:,}" for place in places])
            axes.minorticks_off()
            axes.set_title(panel.title, loc="left", fontsize=FONT_SIZE, weight="bold")
            axes.set_xlabel(panel.across)
            axes.set_ylabel("mean lag, s")
        all_axes[0].legend(frameon=False, labelcolor=INK, loc="upper left")
