"""Forms of the functions of text on DuckDB, and which part of them is supported."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from idc_indexer.sql.coercion import NUMBERS, spelled
from idc_indexer.sql.forms import duckdb_sql, number, quoted, text_of

# Letters whose other case is several letters, depends on the letters around it, or is newer than DuckDB's tables.
NO_UPPER = (
    r"[\x{149}\x{19B}\x{1F0}\x{264}\x{390}\x{3B0}\x{587}\x{1C80}-\x{1C8F}\x{1E96}-\x{1E9A}\x{1F50}-\x{1FFF}"
    r"\x{A7C0}-\x{A7DF}\x{FB00}-\x{FB17}\x{10D50}-\x{10D8F}\x{16EA0}-\x{16EDF}]"
)
NO_LOWER = r"[\x{3A3}\x{1C80}-\x{1C8F}\x{A7C0}-\x{A7DF}\x{10D50}-\x{10D8F}\x{16EA0}-\x{16EDF}]"
_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_LONGEST = 10_000
"""The longest text that LPAD makes."""
_MOST = 2**31 - 1
"""The largest number of characters that DuckDB's functions of text take."""


def case(name: str, special: str, becomes: str, unknown: str) -> Callable[[exp.Expr], str]:
    """UPPER or LOWER. Text of ASCII, nearly all of it, has as many bytes as characters and is not searched."""

    def form(node: exp.Expr) -> str:
        x = f"({duckdb_sql(node.this)})"
        return (
            f"CASE WHEN STRLEN({x}) = LENGTH({x}) THEN {name}({x}) "
            f"WHEN REGEXP_MATCHES({x}, {quoted(unknown)}) "
            f"THEN ERROR('{name} of a letter without one other case: ' || {x}) "
            f"ELSE {name}(REPLACE({x}, {quoted(special)}, {quoted(becomes)})) END"
        )

    return form


def trim(node: exp.Expr) -> str:
    name = {"LEADING": "LTRIM", "TRAILING": "RTRIM"}.get(str(node.args.get("position") or ""), "TRIM")
    characters = node.args.get("expression")
    return f"{name}({duckdb_sql(node.this)}, {duckdb_sql(characters) if characters else quoted(_SPACE)})"


def _characters(name: str, node: exp.Expr) -> str:
    """A number of characters, which may not be negative."""
    if (fixed := number(node)) is not None and 0 <= fixed <= _MOST:
        return duckdb_sql(node)
    n = f"({duckdb_sql(node)})"
    return f"CASE WHEN {n} < 0 THEN ERROR('{name} of a negative length') WHEN {n} > {_MOST} THEN {_MOST} ELSE {n} END"


def substr(node: exp.Expr) -> str:
    """In GoogleSQL, position 0 and positions before the start are the start."""
    x, start, length = duckdb_sql(node.this), node.args["start"], node.args.get("length")
    p = f"({duckdb_sql(start)})"
    place = (
        f"CASE WHEN {p} > {_MOST} THEN {_MOST} WHEN {p} = 0 OR {p} < -LENGTH({x}) THEN 1 ELSE {p} END"
        if not 1 <= (number(start) or 0) <= _MOST
        else duckdb_sql(start)
    )
    limit = f", {_characters('SUBSTR', length)}" if length else ""
    return f"SUBSTRING({x}, {place}{limit})"


def side(name: str) -> Callable[[exp.Expr], str]:
    return lambda node: f"{name}({duckdb_sql(node.this)}, {_characters(name, node.expression)})"


def check_pad(node: exp.Expr) -> str:
    length = number(node.expression)
    pattern = text_of(node.args.get("fill_pattern"))
    good = length is not None and 0 <= length <= _LONGEST and (pattern or node.args.get("fill_pattern") is None)
    return "" if good else f"{spelled(node)} of anything but a literal length and a literal that is not empty"


def check_pattern(node: exp.Expr) -> str:
    pattern = text_of(node.expression)
    if pattern is None or r"\C" in pattern:
        return f"{spelled(node)} of a pattern that is not a literal"
    others = [name for name in ("replacement", "position", "occurrence") if node.args.get(name) is not None]
    if others and (others != ["replacement"] or text_of(node.args["replacement"]) is None):
        return f"{spelled(node)} with anything but literals after the text"
    return ""


_GROUP = re.compile(r"\((?!\?)[^()]*\)")
"""A capturing group without groups inside."""


def check_extract_pattern(node: exp.Expr) -> str:
    """DuckDB returns '' and GoogleSQL NULL for a group without a part in the match."""
    if problem := check_pattern(node):
        return problem
    pattern = re.sub(r"\\.|\[\^?\]?[^]]*\]", "x", node.expression.name)
    groups = len(re.findall(r"\((?!\?)|\(\?P<", pattern))
    optional = "|" in _GROUP.sub("", pattern) or re.search(r"\)[?*{]", pattern)
    if groups and ("(?P<" in pattern or optional):
        return f"{spelled(node)} of a pattern with an optional group"
    return "" if groups <= 1 else f"{spelled(node)} of a pattern with {groups} groups"  # an error in GoogleSQL


def regexp_extract(node: exp.Expr) -> str:
    """sqlglot's own translation lists all matches, which takes seven times as long."""
    x, pattern = duckdb_sql(node.this), quoted(node.expression.name)
    group = 1 if re.search(r"\((?!\?)", re.sub(r"\\.|\[\^?\]?[^]]*\]", "x", node.expression.name)) else 0
    return f"CASE WHEN REGEXP_MATCHES({x}, {pattern}) THEN REGEXP_EXTRACT({x}, {pattern}, {group}) END"


def regexp_replace(node: exp.Expr) -> str:
    texts = (quoted(one.name) for one in (node.expression, node.args["replacement"]))
    return f"REGEXP_REPLACE({duckdb_sql(node.this)}, {', '.join(texts)}, 'g')"


# --- FORMAT -------------------------------------------------------------------------------------------------

VERB = re.compile(r"%(?P<flags>[-+ 0']*)(?P<width>[0-9]*)(?P<digits>\.[0-9]+)?(?P<verb>[a-zA-Z%])")
VERB_TYPES = {
    "d": ("INT64",),
    "i": ("INT64",),
    "s": ("STRING",),
    "f": NUMBERS,
    "t": ("INT64", "STRING", "DATE", "BOOL"),
}
"""By verb: the types of arguments for which both engines write the same."""

_VERB_FORMS = {
    "d": re.compile(r"%[-+ 0]*[0-9]{0,3}[di]|%'[di]"), "i": re.compile(r"%[-+ 0]*[0-9]{0,3}[di]|%'[di]"),
    "s": re.compile(r"%-?([1-9][0-9]{0,2})?s"), "t": re.compile("%t"),
    "f": re.compile(r"%[-+ ]*([1-9][0-9]{0,2})?(\.[0-9])?f"),
    "%": re.compile("%%"),
}  # fmt: skip
_MOST_EXACT = 10**15
"""DuckDB writes the digits of smaller FLOAT64 exactly."""


def verbs(node: exp.Expr) -> list[tuple[str, str]]:
    """The parts of the text of FORMAT, each with its verb; plain text has none."""
    text, parts, end = node.this.name, [], 0
    for match in VERB.finditer(text):
        parts += [(text[end : match.start()], ""), (match[0], match["verb"])]
        end = match.end()
    return [part for part in [*parts, (text[end:], "")] if part[0]]


def check_format(node: exp.Expr) -> str:
    if text_of(node.this) is None:
        return "FORMAT of text that is not a literal"
    for part, verb in verbs(node):
        pattern = _VERB_FORMS.get(verb)
        if ("%" in part and pattern is None) or (pattern and not pattern.fullmatch(part)):
            return f"FORMAT with {part}"
    return ""


def format(node: exp.Expr) -> str:
    values, pieces = iter(node.expressions), []
    for part, verb in verbs(node):
        if verb in ("", "%"):
            pieces.append(quoted("%" if verb else part))
        else:
            pieces.append(_formatted(part.replace("i", "d"), verb, next(values)))
    return f"({' || '.join(pieces or [quoted('')])})"


def _padded(text: str, part: str) -> str:
    """Text with spaces up to the width of %s, in characters."""
    width = int(part.strip("%-s") or 0)
    side = "RPAD" if "-" in part else "LPAD"
    return f"CASE WHEN LENGTH({text}) < {width} THEN {side}({text}, {width}, ' ') ELSE {text} END" if width else text


def _formatted(part: str, verb: str, value: exp.Expr) -> str:
    x = f"({duckdb_sql(value)})"
    if verb == "t":
        return f"COALESCE(CAST({x} AS TEXT), 'NULL')"
    if verb == "s":
        return _padded(f"SPLIT_PART({x}, CHR(0), 1)", part)  # GoogleSQL ends the text there
    if "'" in part:
        return f"FORMAT('{{:,}}', {x})"
    if verb == "f":
        d = f"(CAST({x} AS DOUBLE) + 0e0)"  # -0.0 has no sign in GoogleSQL
        wrong = f"ERROR('FORMAT of a number beyond {_MOST_EXACT}')"
        return (
            f"CASE WHEN ISFINITE({d}) AND ABS({d}) >= {_MOST_EXACT}e0 THEN {wrong} ELSE PRINTF({quoted(part)}, {d}) END"
        )
    return f"PRINTF({quoted(part)}, {x})"
