"""Bars from JSON on standard input: {"file", "title", "panels": [{"heading", "bars"}]}.

A bar is [label, median, least, greatest, whether it is ours].

It runs in an environment of its own, so that the project needs no plotting library.
"""

import json
import sys
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

OURS, OTHERS = "#2563eb", "#94a3b8"


def main() -> None:
    """Draw one picture."""
    plot = json.load(sys.stdin)
    panels = plot["panels"]
    rows = max(len(panel["bars"]) for panel in panels)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(1.8 + 3.4 * len(panels), 1.2 + 0.3 * rows), sharey=True, squeeze=False
    )
    for axis, panel in zip(axes[0], panels, strict=True):
        draw_panel(axis, panel)
    figure.suptitle(plot["title"], fontsize=10)
    figure.tight_layout()
    figure.savefig(plot["file"], dpi=110, metadata={"Software": None})


def draw_panel(axis: Axes, panel: dict[str, Any]) -> None:
    """Medians as bars, the least and the greatest as whiskers."""
    bars = panel["bars"]
    labels, medians = [bar[0] for bar in bars], [bar[1] for bar in bars]
    whiskers = [[bar[1] - bar[2] for bar in bars], [bar[3] - bar[1] for bar in bars]]
    colours = [OURS if bar[4] else OTHERS for bar in bars]
    axis.barh(labels, medians, xerr=whiskers, color=colours, ecolor="#475569", capsize=2, height=0.7)
    axis.invert_yaxis()
    axis.set_title(panel["heading"], fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    if medians and max(medians) > 20 * sorted(medians)[len(medians) // 2] > 0:
        axis.set_xscale("log")


main()
