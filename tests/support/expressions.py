"""Expressions of GitHub Actions, `${{ ... }}`, as far as the workflows of this project use them.

https://docs.github.com/actions/reference/workflows-and-actions/expressions
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Functions = Mapping[str, Callable[..., Any]]

_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<word>[A-Za-z_][\w.-]*)|(?P<sign>\|\||&&|==|!=|[!(),]))")
_WHOLE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
STATUS = ("always", "cancelled", "failure", "success")
_LITERALS = {"true": True, "false": False, "null": None}


def render(value: object, contexts: Mapping[str, Any], functions: Functions | None = None) -> str:
    """A text of a workflow with its expressions replaced."""
    return _WHOLE.sub(lambda found: as_text(evaluate(found[1], contexts, functions or {})), as_text(value))


def condition(text: object, contexts: Mapping[str, Any], functions: Functions) -> bool:
    """Whether an `if:` holds; one that names no status function wants success as well."""
    expression = _WHOLE.sub(r"\1", as_text(text)) if text is not None else "success()"
    asks_status = any(f"{name}()" in expression for name in STATUS)
    return bool((asks_status or functions["success"]()) and evaluate(expression, contexts, functions))


def evaluate(expression: str, contexts: Mapping[str, Any], functions: Functions) -> Any:
    """The value of an expression.

    Raises:
        ValueError: it is none, or uses what GitHub does not have.
    """
    parser = _Parser(expression, contexts, functions)
    value = parser.either()
    if parser.tokens:
        raise ValueError(f"{expression!r}: {parser.tokens[0][1]!r} is one too many")
    return value


def as_text(value: object) -> str:
    """A value as it is put into a text."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _equal(left: Any, right: Any) -> bool:
    """Texts without case; values of two types as numbers."""
    if isinstance(left, str) and isinstance(right, str):
        return left.lower() == right.lower()
    return bool(left == right) if type(left) is type(right) else _number(left) == _number(right)


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except ValueError:
        return float("nan")


class _Parser:
    def __init__(self, expression: str, contexts: Mapping[str, Any], functions: Functions) -> None:
        self._contexts, self._functions = contexts, functions
        self.tokens: list[tuple[str, str]] = []
        place, text = 0, expression.strip()
        while place < len(text):
            found = _TOKEN.match(text, place)
            if not found or found.lastgroup is None:
                raise ValueError(f"{expression!r} is no expression at {text[place:]!r}")
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            place = found.end()

    def _take(self, *signs: str) -> str:
        """The next token, if it is one of these."""
        return self.tokens.pop(0)[1] if self.tokens and self.tokens[0] in [("sign", sign) for sign in signs] else ""

    def either(self) -> Any:
        value = self._both()
        while self._take("||"):
            other = self._both()
            value = value or other
        return value

    def _both(self) -> Any:
        value = self._compared()
        while self._take("&&"):
            other = self._compared()
            value = value and other
        return value

    def _compared(self) -> Any:
        value = self._single()
        while sign := self._take("==", "!="):
            value = _equal(value, self._single()) == (sign == "==")
        return value

    def _single(self) -> Any:
        if self._take("!"):
            return not self._single()
        if self._take("("):
            value = self.either()
            if not self._take(")"):
                raise ValueError("a bracket is not closed")
            return value
        kind, token = self.tokens.pop(0)
        if kind == "text":
            return token[1:-1].replace("''", "'")
        if kind != "word":
            raise ValueError(f"{token!r} is no value")
        return (
            self._call(token) if self._take("(") else _LITERALS[token] if token in _LITERALS else self._look_up(token)
        )

    def _call(self, name: str) -> Any:
        arguments = []
        while not self._take(")"):
            arguments.append(self.either())
            self._take(",")
        if name == "startsWith":
            text, start = map(as_text, arguments)
            return text.lower().startswith(start.lower())
        if name not in self._functions:
            raise ValueError(f"there is no function {name}")
        return self._functions[name](*arguments)

    def _look_up(self, path: str) -> Any:
        """A context must be there; what it does not have is null."""
        first, *rest = path.split(".")
        if first not in self._contexts:
            raise ValueError(f"there is no context {first} here")
        value = self._contexts[first]
        for name in rest:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value
