"""The rate over the last hour as a drawing (SVG) that says in words what it shows."""

from __future__ import annotations

import math

from polyb2.core.units import format_duration, format_size
from polyb2.web.markup import Markup, h

POINTS_MAX = 180
WIDTH, HEIGHT = 1000, 100
SPAN_MIN_S = 300.0


def rate_chart(points: list[tuple[float, float]]) -> Markup:
    """The chart of (seconds ago, bytes per second), the oldest first."""
    if len(points) < 2:  # noqa: PLR2004 - a line has two ends
        return h("p", "The chart begins with the first samples, in some seconds.", class_="quiet")
    span_s = max(SPAN_MIN_S, points[0][0])
    rates = [rate for _, rate in points]
    top = _round_up(max(rates))
    xs = [WIDTH * (1 - ago_s / span_s) for ago_s, _ in points]
    ys = [HEIGHT * (1 - rate / top) for rate in rates]
    line = " ".join(f"{x:.0f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    words = (
        f"Rate over the last {format_duration(points[0][0])}: {format_size(rates[-1])}/s at the end, "
        f"{format_size(sum(rates) / len(rates))}/s on average, {format_size(max(rates))}/s at most."
    )
    drawing = h(
        "svg",
        h("title", words),
        *(h("path", d=f"M0 {y}H{WIDTH}", class_="grid") for y in (0.5, HEIGHT / 2, HEIGHT - 0.5)),
        h("polygon", points=f"{xs[0]:.0f},{HEIGHT} {line} {xs[-1]:.0f},{HEIGHT}", class_="area"),
        h("polyline", points=line, class_="line"),
        h("path", d="", class_="cursor"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=words,
    )
    return h(
        "figure",
        h("div", h("span", f"{format_size(top)}/s"), h("span", f"{format_size(top / 2)}/s"), h("span", "0"), class_="ys",
          aria_hidden="true"),
        drawing,
        h("div", h("span", f"{format_duration(span_s)} ago"), h("span", "now"), class_="xs", aria_hidden="true"),
        h("figcaption", words, data_rest=words),
        class_="chart",
        data_span=f"{span_s:.0f}",
        data_top=f"{top:.0f}",
    )  # fmt: skip


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if value <= 0:
        return 1e6
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)
