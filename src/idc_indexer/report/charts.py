"""Charts as inline SVG. Each has a title and a description for screen readers, and a table next to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH = 720
_LABEL = 210
_VALUE = 90
_ROW = 22
_HEIGHT = 240
_FOOT = 40
_AXIS = 52
"""Room for the numbers of the vertical axis."""
_TICKS = 5
_LABELS = 32
"""Columns up to which each has a label."""


@dataclass(frozen=True)
class Bar:
    """A bar with `text` at its end. `upper` is the value of the upper part of a column."""

    label: str
    value: float
    text: str
    upper: float = 0.0


def rows(name: str, title: str, description: str, bars: Sequence[Bar]) -> Markup:
    """Horizontal bars, one below the other.

    Args:
        name: of the chart, for links within the page.
    """
    longest = max((bar.value for bar in bars), default=0.0) or 1.0
    room = _WIDTH - _LABEL - _VALUE
    parts = []
    for number, bar in enumerate(bars):
        top = number * _ROW
        width = max(bar.value / longest * room, 1.0)
        parts.append(
            Markup(
                '<text class="label" x="{}" y="{}">{}</text>'
                '<rect class="bar" x="{}" y="{}" width="{:.1f}" height="{}"/>'
                '<text class="value" x="{:.1f}" y="{}">{}</text>'
            ).format(
                _LABEL - 8,
                top + 15,
                bar.label,
                _LABEL,
                top + 4,
                width,
                _ROW - 7,
                _LABEL + width + 6,
                top + 15,
                bar.text,
            )
        )
    return _svg(name, title, description, len(bars) * _ROW + 4, parts)


def columns(name: str, title: str, description: str, bars: Sequence[Bar], axes: tuple[str, str]) -> Markup:
    """Vertical bars on axes, each of two parts: `value` below, `upper` on top.

    Args:
        axes: what the horizontal and the vertical axis show, the latter with its unit.
    """
    highest = max((bar.value + bar.upper for bar in bars), default=0.0) or 1.0
    top, room = 24, _HEIGHT - 24
    step = (_WIDTH - _AXIS) / max(len(bars), 1)
    every = -(-len(bars) // _LABELS)
    parts = [*_grid(highest, top, room)]
    for number, bar in enumerate(bars):
        left, width = _AXIS + number * step + step * 0.12, step * 0.76
        lower, upper = (value / highest * room for value in (bar.value, bar.upper))
        parts.append(
            Markup(
                '<rect class="before" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
            ).format(
                *(left, top + room - lower, width, lower),
                *(left, top + room - lower - upper, width, upper),
            )
        )
        if number % every == 0:
            at = (left + width / 2, top + room + 16, bar.label)
            parts.append(Markup('<text class="tick" x="{:.1f}" y="{}">{}</text>').format(*at))
        if number == len(bars) - 1:
            end = (left + width, top + room - lower - upper - 6, bar.text)
            parts.append(Markup('<text class="total" x="{:.1f}" y="{:.1f}">{}</text>').format(*end))
    along = (_AXIS + (_WIDTH - _AXIS) / 2, top + room + 34, axes[0])
    parts.append(Markup('<text class="tick" x="{}" y="{}">{}</text>').format(*along))
    parts.append(Markup('<text class="axis" x="0" y="12">{}</text>').format(axes[1]))
    return _svg(name, title, description, _HEIGHT + _FOOT, parts)


def _grid(highest: float, top: int, room: int) -> Iterator[Markup]:
    """Lines at round numbers, which are 1, 2 or 5 times a power of ten apart, with their labels."""
    power = 10.0 ** math.floor(math.log10(highest / _TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * _TICKS >= highest)
    for number in range(int(highest / step * (1 + 1e-9)) + 1):
        y = top + room - number * step / highest * room
        yield Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
            '<text class="label" x="{}" y="{:.1f}">{:g}</text>'
        ).format(_AXIS, _WIDTH, y, y, _AXIS - 8, y + 4, number * step)


def _svg(name: str, title: str, description: str, height: int, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="chart" role="img" viewBox="0 0 {} {}" aria-labelledby="{}-title {}-text">'
        '<title id="{}-title">{}</title><desc id="{}-text">{}</desc>{}</svg>'
    ).format(_WIDTH, height, name, name, name, escape(title), name, escape(description), Markup("").join(parts))
