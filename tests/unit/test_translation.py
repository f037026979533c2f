"""Every message exists in Chinese, and formats with the same fields."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from string import Formatter

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = [
    str(path) for folder in ("kylin_gguf", "convert") for path in sorted((ROOT / folder).rglob("*.py"))
]
ENTRY = re.compile(r'^msgid ((?:".*"\n)+)msgstr ((?:".*"\n?)+)', re.M)


def entries(text: str) -> dict[str, str]:
    """Read a .po file: message → translation."""

    def joined(lines: str) -> str:
        return "".join(ast.literal_eval(line) for line in lines.splitlines())

    found = {joined(source): joined(target) for source, target in ENTRY.findall(text)}
    found.pop("", None)
    return found


@pytest.fixture(scope="module")
def messages() -> set[str]:
    keywords = [f"--keyword={name}" for name in ("N_", "translate", "_")]
    command = ["xgettext", "--language=Python", "--from-code=UTF-8", "--no-wrap", "--output=-", *keywords]
    extracted = subprocess.run([*command, *SOURCES], capture_output=True, text=True, check=True).stdout
    return set(entries(extracted))


@pytest.mark.parametrize("path", sorted((ROOT / "po").glob("*.po")), ids=lambda path: path.stem)
def test_a_catalogue_is_complete_and_holds_nothing_stale(path: Path, messages: set[str]) -> None:
    translated = entries(path.read_text(encoding="utf-8"))
    assert sorted(messages - set(translated)) == [], "not translated"
    assert sorted(set(translated) - messages) == [], "no longer used"
    assert all(translated.values())


@pytest.mark.parametrize("path", sorted((ROOT / "po").glob("*.po")), ids=lambda path: path.stem)
def test_translations_have_the_fields_of_their_messages(path: Path) -> None:
    def names(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    for message, translation in entries(path.read_text(encoding="utf-8")).items():
        if "{id, utterance}" not in message:  # shows an object's shape; it is not formatted
            assert names(message) == names(translation), message
