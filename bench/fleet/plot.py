"""Draw the lags of the fleet: a dot per job, a strip per client, a panel per workload."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

OURS = "#1a4f8a"
OTHERS = "#777777"
INK = "#222222"
FAINT = "#555555"


@attrs.frozen
class Strip:
    """A client in the plot: all lags of all seeds, the median of the seeds' means, and the lost waits."""

    lags: Sequence[float]
    mean: float
    lost: float
    ours: bool = False


def draw(path: Path, panels: Mapping[str, Mapping[str, Strip]]) -> None:
    """Draw one panel per workload, and write the picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [len(strips) for strips in panels.values()]
    plt.rcParams.update({"font.size": 9, "font.family": "sans-serif", "text.color": INK, "axes.labelcolor": INK})
    figure, all_axes = plt.subplots(
        len(panels),
        1,
        figsize=(9, 1.1 + sum(0.6 + 0.32 * count for count in rows)),
        height_ratios=rows,
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(h_pad=0.12)
    for axes, (title, strips) in zip(all_axes[:, 0], panels.items(), strict=True):
        panel(axes, title, strips)
    all_axes[-1, 0].set_xlabel("lag from finished to noticed, in seconds; each dot is a job, each bar a mean")
    figure.savefig(path, dpi=200, bbox_inches="tight", pad_inches=0.12)
    plt.close(figure)


def panel(axes: Any, title: str, strips: Mapping[str, Strip]) -> None:
    """Draw the strips of one workload, with the mean and the number of lost waits of each."""
    rng = random.Random(0)  # noqa: S311 - spreads the dots, the same each time
    longest = max(max(strip.lags, default=0.0) for strip in strips.values())
    mean_at, lost_at = longest * 1.13, longest * 1.27
    for place, strip in enumerate(strips.values()):
        weight = "bold" if strip.ours else "normal"
        heights = [place + rng.uniform(-0.26, 0.26) for _ in strip.lags]
        color = OURS if strip.ours else OTHERS
        axes.scatter(strip.lags, heights, s=6, color=color, alpha=0.45, linewidths=0, rasterized=True)
        if strip.lags:
            axes.plot([strip.mean] * 2, [place - 0.38, place + 0.38], color=INK, linewidth=2)
            axes.text(mean_at, place, f"{strip.mean:.1f} s", ha="right", va="center", weight=weight)
        axes.text(lost_at, place, f"{strip.lost:,.0f}", ha="right", va="center", weight=weight)
    for at, heading in ((mean_at, "mean"), (lost_at, "waits lost")):
        axes.text(at, -0.75, heading, ha="right", va="bottom", color=FAINT)
    axes.set_yticks(range(len(strips)), list(strips))
    for label, strip in zip(axes.get_yticklabels(), strips.values(), strict=True):
        label.set_weight("bold" if strip.ours else "normal")
    axes.set_ylim(len(strips) - 0.4, -0.6)
    axes.set_xlim(-longest * 0.01, longest * 1.02)
    axes.set_title(title, loc="left", fontsize=10, weight="bold", pad=14)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e0e0e0", linewidth=0.8)
    axes.set_axisbelow(True)
