"""Each rule of docs/embedding.md points at a line of an example: the quoted text stands there.

``python tests/packaging/test_embedding_lines.py --fix`` corrects the numbers of lines that have
moved, where the quoted text occurs only once, or nearest to where it was.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "embedding.md"
REFERENCE = re.compile(r"(?P<path>native/examples/[\w./]+):(?P<line>\d+) `(?P<token>[^`]+)`")


class Reference(NamedTuple):
    path: str
    line: int
    token: str


def references(text: str) -> list[Reference]:
    return [Reference(m["path"], int(m["line"]), m["token"]) for m in REFERENCE.finditer(text)]


def _lines(path: str) -> list[str]:
    return (ROOT / path).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "reference", references(GUIDE.read_text(encoding="utf-8")), ids=lambda r: f"{r.path}:{r.line}"
)
def test_token_stands_on_its_line(reference: Reference) -> None:
    lines = _lines(reference.path)
    assert reference.line <= len(lines), f"{reference.path} has {len(lines)} lines"
    assert reference.token in lines[reference.line - 1], lines[reference.line - 1]


def test_every_path_is_a_whole_reference() -> None:
    """A path with a line number but without its quoted text would escape the check."""
    text = GUIDE.read_text(encoding="utf-8")
    assert len(re.findall(r"native/examples/[\w./]+:\d+", text)) == len(references(text))


def test_every_section_of_rules_has_examples() -> None:
    sections = re.split(r"^## ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(sections) == 13
    for section in sections:
        assert references(section), section.splitlines()[0]


def test_every_rule_has_an_example() -> None:
    """A list's items are rules, and so is what speaks of calls; the rest introduces a section."""
    sections = re.split(r"^## ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for section in sections:
        for part in re.split(r"\n\s*\n|\n(?=- )", section.partition("\n")[2].strip()):
            if part.startswith("- ") or "gch_" in part:
                assert references(part), part


def fix() -> None:
    def corrected(match: re.Match[str]) -> str:
        found = [i for i, line in enumerate(_lines(match["path"]), 1) if match["token"] in line]
        if not found:
            raise SystemExit(f"{match['path']}: `{match['token']}` is nowhere")
        nearest = min(found, key=lambda i: abs(i - int(match["line"])))
        return f"{match['path']}:{nearest} `{match['token']}`"

    GUIDE.write_text(REFERENCE.sub(corrected, GUIDE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--fix"]:
    fix()
