"""The pages that a user reads, and what in them can be run."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]

PROGRAM = r"(\$ )?(#|cells=|for |mkdir |(\w+=\S* )*(python3?|osal|make|pip|torchrun|\.venv/bin/python)( |$))"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.M | re.S)
INDENTED = re.compile(r"(?:(?<=\n)|^)(?: {4,}\S.*(?:\n|$))(?:(?: {4,}.*| *)(?:\n|$))*")
INLINE = re.compile(r"`(python \w+/\w+\.py [^`]+|osal [a-z ]+ --config-file configs/[^`]+)`")


@dataclass(frozen=True)
class Block:
    """kind: sh, python, yaml, or "" for what is only to be read; line: the page's line of its first line."""

    line: int
    kind: str
    text: str


def name_of(page: Path) -> str:
    return "benchmarks" if page.parent.name == "benchmarks" else page.stem


def blocks(page: Path) -> list[Block]:
    """The code of a page in its order: fenced, indented, and commands within a sentence."""
    text = page.read_text()
    found = [(m.start(2), m[1], m[2]) for m in FENCED.finditer(text)]
    blank = lambda m: re.sub(r"[^\n]", " ", m[0])  # noqa: E731  (offsets stay)
    rest = FENCED.sub(blank, text)
    found += [(m.start(), "", m[0]) for m in INDENTED.finditer(rest) if m[0].strip()]
    rest = INDENTED.sub(blank, rest)
    found += [(m.start(), "sh", m[1]) for m in INLINE.finditer(rest)]
    result = []
    for start, kind, body in sorted(found):
        body = textwrap.dedent(body).strip("\n") + "\n"
        result.append(Block(text.count("\n", 0, start) + 1, kind or guess(body), body))
    return result


def guess(text: str) -> str:
    if re.match(PROGRAM, text):
        return "sh"
    if re.match(r"(from|import) ", text):
        return "python"
    return "yaml" if re.match(r"[A-Z_]+:\n", text) else ""


def lines(block: Block) -> list[str]:
    """The logical lines of a shell block, without remarks and prompts."""
    joined = re.sub(r"\s*\\\n\s*", " ", block.text)
    bare = (
        re.sub(r"(^|\s+)#( .*|!.*|SBATCH.*)?$", "", line).removeprefix("$ ") for line in joined.splitlines()
    )
    return [line for line in bare if line.strip()]
