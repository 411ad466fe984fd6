"""What the documents show is run, what they name is there, and they say what the tool says."""

from __future__ import annotations

import ast
import html
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

import idc_indexer
from idc_indexer.cli import main
from tests.cli.test_cli import ALL
from tests.emulators.workflows import WORKFLOWS

TOP = Path(__file__).parents[2]
PAGES = sorted((TOP / "docs").rglob("*.md"))
DOCUMENTS = [*(TOP / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")), *PAGES]
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def blocks(path: Path, kind: str) -> list[str]:
    """The blocks of code of a kind."""
    return [block for found, block in FENCED.findall(path.read_text(encoding="utf-8")) if found == kind]


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def shown() -> Iterator[str]:
    """Every command of the tool that a document shows without running it."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        lines = [line.strip() for kind, block in FENCED.findall(text) for line in block.splitlines() if kind != "sh"]
        lines += [line.strip() for line in FENCED.sub("", text).splitlines() if line.startswith("    ")]
        for line in lines:
            if line.startswith("idc-indexer "):
                yield line


@pytest.mark.parametrize("line", sorted(set(shown())))
def test_every_command_that_is_shown_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    for word in words:
        if re.fullmatch(r"[a-z]+", word):
            Path(word).mkdir(exist_ok=True)
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    # a command remembers how its first context wanted the help option to be called
    command.make_context("idc-indexer", words, parent=click.Context(main, **main.context_settings))


@each_document
def test_commands_and_options_in_a_sentence_exist(path: Path) -> None:
    known = {name for command in _commands(main) for option in command.params for name in option.opts}
    for code in re.findall(r"`([^`\n]+)`", prose(path)):
        words = code.split()
        if words[:1] == ["idc-indexer"] and len(words) > 1 and words[1].isalpha():
            assert words[1] in main.commands or words[1].isupper(), code
        if words[:1] == ["idc-indexer"] or len(words) == 1:
            for word in words:
                option = word.partition("=")[0]
                if re.fullmatch(r"--[a-z][a-z0-9-]+", option):
                    assert option in known | {"--help", "--version"}, code


def _commands(group: click.Group) -> Iterator[click.Command]:
    yield group
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from _commands(command)
        else:
            yield command


# --- What is named exists ------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The headings of a document, as links name them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file) if file else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@each_document
def test_paths_that_are_named_exist(path: Path) -> None:
    for named in re.findall(r"`((?:tests|scripts|schemas|src|queries|docs|\.github)/[\w./-]+\w)`", prose(path)):
        assert (TOP / named).exists(), named


def test_every_page_is_in_the_navigation() -> None:
    configuration = yaml.safe_load((TOP / "mkdocs.yml").read_text(encoding="utf-8"))
    named = re.findall(r"[\w/-]+\.md", str(configuration["nav"]))
    assert sorted(named) == sorted(page.relative_to(TOP / "docs").as_posix() for page in PAGES)


def test_the_variables_of_the_workflows_are_explained() -> None:
    used = set(re.findall(r"vars\.(\w+)", "".join(path.read_text() for path in WORKFLOWS.glob("*.yml"))))
    table = prose(TOP / "docs" / "workflows.md")
    explained = set(re.findall(r"`([A-Z_]{4,})`", "".join(re.findall(r"^\| (`[A-Z_]+`.*?) \|", table, re.MULTILINE))))
    assert explained == used


def test_the_table_of_workflows_is_complete() -> None:
    names = {yaml.safe_load(path.read_text())["name"] for path in WORKFLOWS.glob("*.yml")}
    rows = re.findall(r"^\| ([A-Z][\w ]+) \|", prose(TOP / "docs" / "workflows.md"), re.MULTILINE)
    assert set(rows) == names


def test_the_jobs_of_a_release_are_explained() -> None:
    jobs = list(yaml.safe_load((WORKFLOWS / "release.yml").read_text())["jobs"])
    table = prose(TOP / "docs" / "releasing.md").partition("| job | does |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([a-z, ]+) \|", table, re.MULTILINE)
    assert [job for row in rows for job in row.split(", ")] == jobs


@cache
def templates() -> set[str]:
    """All texts of the source, with `…` where something is filled in."""
    found = set()
    for path in (TOP / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values))  # type: ignore[misc]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    # `{}` stands for what `str.format` fills in, and texts side by side are one to the reader
    return {re.sub("…+", "…", text.replace("{}", "…")) for text in found}


MESSAGES = re.findall(r"^### `(.*)`$", (TOP / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_is_explained_is_one_of_the_tool(message: str) -> None:
    assert message in templates()


def test_messages_are_explained() -> None:
    assert len(set(MESSAGES)) == len(MESSAGES) > 20


# --- The site -------------------------------------------------------------------------------------------------


def test_the_site_builds_without_a_warning_and_has_every_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=TOP,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    commands = (tmp_path / "site" / "commands" / "index.html").read_text(encoding="utf-8")
    plain = html.unescape(re.sub("<[^>]+>", "", commands))
    names = [" ".join(path) for path in [[], *([name] for name in main.commands), *ALL]]
    for name in names:
        assert f'<h2 id="{"-".join(["idc-indexer", *name.split()])}">' in commands
        shown = subprocess.run(
            [Path(sys.executable).with_name("idc-indexer"), *name.split(), "--help"],
            env=os.environ | {"COLUMNS": "82"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout.strip() in plain
    front = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "Imaging Data Commons" in front
    # nothing is fetched from elsewhere when a page is read
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"?https?:|<link[^>]+stylesheet[^>]+https?:", text)


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((TOP / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == idc_indexer.__version__


RETIRED = re.compile(
    r"(?i)\b(weather|calm|spool(ed|s)?|narrow shards?|guard rails?|leave-out|batch-hours|vandals?)\b|[«»]"
)


@pytest.mark.parametrize(
    "path",
    # The changelog names what the options were called before.
    [*(p for p in DOCUMENTS if p.stem != "CHANGELOG"), *sorted((TOP / "src" / "idc_indexer").rglob("*.py"))],
    ids=lambda path: path.relative_to(TOP).as_posix(),
)
def test_words_that_were_given_up_do_not_come_back(path: Path) -> None:
    """The glossary has the ones for them. Help and messages are in the sources."""
    found = RETIRED.search(path.read_text(encoding="utf-8"))
    assert not found, found[0]
