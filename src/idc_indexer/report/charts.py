"""Charts as inline SVG. Each has a title and a description for screen readers, and a table next to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH = 720
_LABEL = 210
_VALUE = 90
_ROW = 22
_HEIGHT = 240
_FOOT = 22


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


def columns(name: str, title: str, description: str, bars: Sequence[Bar]) -> Markup:
    """Vertical bars, each of two parts: `value` below, `upper` on top."""
    highest = max((bar.value + bar.upper for bar in bars), default=0.0) or 1.0
    step = _WIDTH / max(len(bars), 1)
    parts = []
    for number, bar in enumerate(bars):
        left, width = number * step + step * 0.12, step * 0.76
        lower, upper = (value / highest * (_HEIGHT - 24) for value in (bar.value, bar.upper))
        parts.append(
            Markup(
                '<rect class="before" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                '<text class="tick" x="{:.1f}" y="{}">{}</text>'
            ).format(
                *(left, _HEIGHT - lower, width, lower),
                *(left, _HEIGHT - lower - upper, width, upper),
                *(left + width / 2, _HEIGHT + 16, bar.label),
            )
        )
        if number == len(bars) - 1:
            at = (left + width, _HEIGHT - lower - upper - 6, bar.text)
            parts.append(Markup('<text class="total" x="{:.1f}" y="{:.1f}">{}</text>').format(*at))
    return _svg(name, title, description, _HEIGHT + _FOOT, parts)


def _svg(name: str, title: str, description: str, height: int, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="chart" role="img" viewBox="0 0 {} {}" aria-labelledby="{}-title {}-text">'
        '<title id="{}-title">{}</title><desc id="{}-text">{}</desc>{}</svg>'
    ).format(_WIDTH, height, name, name, name, escape(title), name, escape(description), Markup("").join(parts))
