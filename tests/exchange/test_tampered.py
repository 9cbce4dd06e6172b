"""Files that were tampered with, many of each format: whatever is in them, the promises of an import hold.

The record is as it was or has the whole file in it, nothing else on the disk is touched, and what is refused is said in
words that name the file, the place and the remedy. `-m slow` takes 10,000 files of each format, in place of 100.
"""

import os
import random
import re
import sys
from collections import Counter
from pathlib import Path

import answering
import pytest
import tampering
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_round_trip import exported
from waiting_run import files

from osal_detectron2.core.errors import OSALError
from osal_detectron2.core.labels import LABELLED
from osal_detectron2.exchange.registry import FORMATS
from osal_detectron2.exchange.words import ACCEPT
from osal_detectron2.oracles.answers import Answer, Answers
from osal_detectron2.oracles.exchange import import_batch, open_request

READ = (".json", ".geojson", ".xml", ".txt", ".yaml")
# A remedy is an order: what to do with the file, the tool or the command.
ORDERS = (
    "add|annotate|ask|check|choose|convert|correct|delete|draw|export|get|give|import|install|leave|make|map|move|name|"
    "open|put|remove|rename|restore|save|say|set|take|use|write"
)
REMEDY = re.compile(rf"(?:[;:,(.] |\bor |\band |\bso |\bit needs |--)(?:{ORDERS})\b", re.IGNORECASE)
PLACE = re.compile(
    r"\b(?:image|images|tile|tiles|task|region|annotation|annotations|object|box|line|row|class|category|category_id|frame|"
    r"image id|byte|--\w+|number|element|polygon|mask|tag|holds|is no|is not|has no|answers|are there twice)\b"
)


# ---- what Python does to the disk and the network -----------------------------------------------------------------
_seen: list | None = None
_CHANGES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
}
_NEVER = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "shutil.rmtree",
}


def _audit(event, args):
    if _seen is None:
        return
    if event == "open":
        path, mode, flags = args
        writes = bool(set(mode or "") & set("wax+")) or bool(
            (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if isinstance(path, (str, bytes)) and not str(path).endswith((".py", ".pyc", ".so")):
            _seen.append(("write" if writes else "read", os.fsdecode(path)))
    elif event in _CHANGES:
        _seen.extend(
            ("write", os.fsdecode(path)) for path in args[:2] if isinstance(path, (str, bytes, os.PathLike))
        )
    elif event in _NEVER:
        _seen.append((event, str(args)))


sys.addaudithook(_audit)


def watched(call):
    """(result, OSALError or None, [("read" or "write", path)]) of a call."""
    global _seen
    _seen, result, refusal = [], None, None
    try:
        result = call()
    except OSALError as error:
        refusal = error
    finally:
        seen, _seen = _seen, None
    return result, refusal, seen


def check_words(error, path):
    """The file first; each problem with its place and its remedy; nothing that breaks a terminal."""
    text = str(error)
    assert text.startswith(str(path)), text
    first, *problems = text.removeprefix(str(path)).split("\n  - ")
    for problem in problems or [first]:
        if not re.fullmatch(r"and \d+ more", problem):
            assert PLACE.search(problem) or not problems, f"no place: {problem}"
            assert REMEDY.search(problem), f"no remedy: {problem}"
    assert len(text) < 20_000, f"{len(text)} letters"


def check_record(report, query, request):
    """What was taken is all that the report says, and could be labels: of the run's classes, inside of the tiles."""
    record = Answers.read(query, request.batch)
    mine = [e for e in record.events if isinstance(e, Answer)]
    for key in {*report.labelled, *report.reviewed_empty, *report.rejected}:
        assert record.of(key), f"{key} is in the report and not in the record"
    for event in mine:
        tile, labels = request.tiles[event.tile], event.labels
        assert set(labels.classes) <= set(request.offered)
        assert (labels.state == LABELLED) == bool(labels.boxes)
        for x, y, w, h in labels.boxes:
            assert (
                w > 0
                and h > 0
                and x >= 0
                and y >= 0
                and x + w <= tile.width + 1e-3
                and y + h <= tile.height + 1e-3
            )
        assert event.seconds is None or 0 <= event.seconds < 1e9


def allowed(how, path, file, run):
    """Whether an import may do this: it reads what it was given and its run, and writes answers."""
    if how not in ("read", "write"):
        return False
    path = os.path.abspath(path)
    if how == "write":
        return (path + os.sep).startswith(str(run / "rounds/init") + os.sep)
    return any(path == str(place) or path.startswith(str(place) + os.sep) for place in (file, run))


def shape(error, file):
    """The words of a refusal without what is this case's own."""
    text = str(error).replace(str(file), "FILE")
    text = text.partition("\n  - ")[2].partition("\n")[0] or text
    text = re.sub(r"'[^']*'|\"[^\"]*\"|\[[^]]*\]|\([^)]*\)|\S*(?:tile|plain|deep|\d)\S*", "_", text)
    return re.sub(r"(?:_[,. ]*)+", "_ ", text)[:90]


def options(rng, keys):
    """What the importer may say with it, as the command line passes it."""
    said = {"skip_other_tiles": rng.random() < 0.4, "accept": [w for w in ACCEPT if rng.random() < 0.3]}
    said |= {"treat_missing_as": rng.choice(["pending"] * 4 + ["empty", "rejected"])}
    said |= {"treat_skipped_as": rng.choice(["pending", "rejected"])}
    if rng.random() < 0.3:
        said |= {"treat_empty_as": "empty", "opened": rng.choice(["all", keys[:3]])}
    if rng.random() < 0.1:
        said["format"] = rng.choice(list(FORMATS))
    return said


def put(files, folder, path, rng):
    """Write the tampered files where the importer finds them: in a folder, or in an archive; returns what to import."""
    plain = all(
        len(n) < 200 and ".." not in n and n[:1] not in ("", "/", ".") and n.isprintable() for n in files
    )
    folder.mkdir(exist_ok=True)
    try:
        if plain and rng.random() < 0.8:
            for name, content in files.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            return folder if path.is_dir() or len(files) > 1 else folder / next(iter(files))
    except OSError:  # names that no disk takes, or one that is a folder to another
        clear(folder)
    archive = folder / "export.zip"
    archive.write_bytes(tampering.packed(files, rng))
    return archive


def clear(folder):
    """Take the files away; to remove folders is slow."""
    for path in folder.rglob("*"):
        if not path.is_dir():
            path.unlink()


class Importer:
    """Imports tampered files into a run that has taken the sound one, each as if it were the first, and counts."""

    def __init__(self, run, format, inbox):
        folder = exported(run, format)
        self.path = getattr(answering, format.replace("-", "_"))(folder)
        root = self.path if self.path.is_dir() else self.path.parent
        members = sorted(root.rglob("*")) if root == self.path else [self.path]
        members = [p for p in members if p.suffix in READ and p.is_file() and "images" not in p.parts]
        self.sound = {p.relative_to(root).as_posix(): p.read_bytes() for p in members}
        self.run, self.inbox = run, inbox
        import_batch(run, self.path)  # loads all packages, too
        _, self.query, self.request = open_request(run)
        self.before, self.taken, self.refused = files(run), 0, Counter()

    def __call__(self, seed):
        rng = random.Random(seed)
        changed = tampering.tamper(self.sound, rng)
        said = options(rng, list(self.request.tiles))
        file = put(changed, self.inbox, self.path, rng)
        try:
            report, refusal, seen = watched(lambda: import_batch(self.run, file, **said))
            assert not (wrong := [one for one in seen if not allowed(*one, file, self.run)]), wrong
            after = files(self.run)
            if refusal is None:
                str(report).encode("utf-8", "backslashreplace")
                check_record(report, self.query, self.request)
                self.taken += 1
            else:
                assert after == self.before, "refused, and yet something was written"
                check_words(refusal, file)
                self.refused[shape(refusal, file)] += 1
        finally:
            clear(self.inbox)
            for name in files(self.run).keys() - self.before.keys():
                Path(name).unlink()
            (self.query / "imported.json").write_bytes(self.before[str(self.query / "imported.json")])


@pytest.mark.parametrize("examples", [100, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("format", FORMATS)
def test_a_tampered_file_is_taken_whole_or_refused_in_words(make, format, examples, tmp_path):
    importer = Importer(make(slide=True), format, tmp_path / "inbox")

    @settings(max_examples=examples, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**63))
    def tampered(seed):
        importer(seed)

    tampered()
    refused, taken = importer.refused.total(), importer.taken
    words = len(importer.refused)
    print(f"{format}: {refused} of {refused + taken} refused, in {words} different words")
    assert taken > examples / 10 and refused > examples / 10 and words > 10, "else it shows little"
