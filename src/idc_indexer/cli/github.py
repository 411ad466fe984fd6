"""What a workflow of GitHub Actions is told besides: the outputs of a step, and the summary of its run.

Both are files that GitHub names in the environment. Elsewhere nothing is written.
https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands#environment-files
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from idc_indexer.errors import IndexerError


def set_outputs(**values: object) -> None:
    """Outputs of the step, which later steps and jobs read; `release_version` is called `release-version`."""
    # A value of two lines could set another output.
    if broken := [name for name, value in values.items() if re.search(r"[\r\n]", str(value))]:
        raise IndexerError(f"{broken[0]} has several lines, which no output of a step can have")
    _append("GITHUB_OUTPUT", "".join(f"{name.replace('_', '-')}={value}\n" for name, value in values.items()))


def summarize(markdown: str) -> None:
    """A part of the summary that GitHub shows of a run."""
    _append("GITHUB_STEP_SUMMARY", markdown)


def as_markdown(title: str, lines: Sequence[str]) -> str:
    """A heading and, below it, lines as they are: whatever is in them is neither markup nor a mention."""
    text = "\n".join(lines)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"### {title}\n\n{fence}text\n{text}\n{fence}\n\n"


def _append(variable: str, text: str) -> None:
    if place := os.environ.get(variable):
        from idc_indexer import files  # with its locks, a tenth of the processor time of `--help`

        with files.os_errors_for(Path(place)), Path(place).open("a", encoding="utf-8", newline="\n") as file:
            file.write(text)
