"""What other machines, other people and attackers do to the files of a tool: one change at a time, chosen by a seed.

A file is parsed where it can be, so that most changes leave valid JSON, XML or text with something wrong in it.
"""

import copy
import io
import re
import unicodedata
import warnings
import zipfile
from pathlib import PurePosixPath
from xml.etree import ElementTree

from documents import Lines, as_text, dicts, leaves, lists, parsed, written
from exporting import KEYS

OTHER_BATCH = "0123456789abcdef"
NUMBERS = [
    *(float("nan"), float("inf"), "NaN", "-inf", 1e300, "1e999", 10**400, "9" * 5000, -1, 0, -0.0, 1e-300, 0.5),
    *(97, 53, 200, "12px", "1,5", "1_0", "0x1f", " 7 ", "\uff17", "", None, True, [], [1, 2], {"x": 1}),
]  # fmt: skip
NAMES = [
    *("../../x.png", "/etc/passwd", "C:\\x.png", "..\\x.png", "\\\\host\\x.png", "a\0b.png", "x\n.png", "a" * 5000),
    *(".", "", "file:///etc/passwd", "\ud800.png", "%2e%2e%2fplain.png", "con", "/", "..", None, 7, [], "nobody.png"),
]  # fmt: skip
CLASSES = [
    *("Tumor", " tumor ", "tumour", "mitosis", "", "tumor\n", "tile: done", "tile: rejected", "unknown", "\ud800"),
    *("t" * 5000, "lymphocyte", "debris", None, 7, [], ["tumor"], {"name": "tumor"}, "not usable"),
]  # fmt: skip
WORDS = [
    *(None, True, -1, 1e308, float("nan"), 10**400, "", "a", "\ud800", "../x", "done", "pending"),
    *([], [[]], {}, {"a": 1}),
]  # fmt: skip
BATCH = re.compile(r"[0-9a-f]{16}")


def kind_of(value):
    if isinstance(value, bool) or value is None:
        return "word"
    if isinstance(value, (int, float)) or (
        isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d*)?(e-?\d+)?", value.strip())
    ):
        return "number"
    if any(PurePosixPath(key).stem in value for key in KEYS):
        return "name"
    if BATCH.search(value):
        return "batch"
    return "class" if value.strip() in ("tumor", "lymphocyte", "debris", "unknown") else "word"


def renamed(name, rng):
    """A tile's name as another system writes it."""
    if not isinstance(name, str):
        return rng.choice(NAMES)
    path = PurePosixPath(name)
    ways = [
        name.upper(),
        name.replace("/", "\\"),
        path.name,
        f"job/{name}",
        f"3f9a-{path.name}",
        name + ".png",
    ]
    ways += [
        unicodedata.normalize("NFD", name),
        name.replace(path.suffix, ".jpg"),
        f"/{name}",
        rng.choice(KEYS),
    ]
    return rng.choice(ways)


# ---- one change ---------------------------------------------------------------------------------------------------
def change_value(document, rng, kind=None):
    found = [(value, put) for value, put in leaves(document) if kind in (None, kind_of(value))]
    if not found:
        return
    value, put = rng.choice(found)
    what = kind or kind_of(value)
    if what == "number" and rng.random() < 0.3:
        number = float(value)
        new = rng.choice(
            [2 * number, number + 1, -number, number // 1, str(number), number + 0.001, 100 - number]
        )
    elif what == "name" and rng.random() < 0.6:
        new = renamed(value, rng)
    elif what == "batch":
        new = rng.choice(
            [BATCH.sub(OTHER_BATCH, value), OTHER_BATCH, value.upper(), None, 5, "", "osal-7-" + OTHER_BATCH]
        )
    else:
        new = rng.choice({"number": NUMBERS, "name": NAMES, "class": CLASSES}.get(what, WORDS))
    put(new)


def change_number(document, rng):
    change_value(document, rng, "number")


def change_name(document, rng):
    change_value(document, rng, "name")


def change_class(document, rng):
    change_value(document, rng, "class")


def change_batch(document, rng):
    change_value(document, rng, "batch")


def change_list(document, rng):
    """Something is gone, there twice, in another order, at another place, or there 6000 times."""
    found = [items for items in lists(document) if len(items)]
    if not found:
        return
    items = rng.choice(found)
    at, what = (
        rng.randrange(len(items)),
        rng.choice(("drop", "double", "double", "shuffle", "move", "empty", "many")),
    )
    if what == "drop":
        del items[at]
    elif what == "double":
        items.insert(rng.randrange(len(items) + 1), copy.deepcopy(items[at]))
    elif what == "shuffle":
        items[:] = rng.sample(list(items), len(items))
    elif what == "move":
        rng.choice(found).append(copy.deepcopy(items[at]))
    elif what == "empty":
        items[:] = []
    elif rng.random() < 0.02:  # takes a second
        items[:] = [copy.deepcopy(items[at]) for _ in range(6000)]


def change_key(document, rng):
    """A field is gone, or has another name."""
    if isinstance(document, ElementTree.Element):
        element = rng.choice(list(document.iter()))
        if element.attrib and rng.random() < 0.7:
            element.attrib[rng.choice(["x", "rotation", "label"])] = element.attrib.pop(
                rng.choice(list(element.attrib))
            )
        else:
            element.tag = rng.choice(["mask", "track", "polygon", "object", "image", "x"])
    elif isinstance(document, Lines):
        document.rows.append(
            rng.sample(["0", "1", "0.5", "nan", "-", "tumor", "0.1", "0.1"], rng.randint(1, 8))
        )
    else:
        fields = [d for d in dicts(document) if d]
        if fields:
            field = rng.choice(fields)
            value = field.pop(rng.choice(list(field)))
            if rng.random() < 0.3:
                field[rng.choice(list(field) or ["x"])] = value


def change_encoding(content, rng):
    text = content.decode("utf-8", "replace")
    name = rng.choice(
        ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "shift_jis", "utf-7", "cp037", "utf-8-sig"]
    )
    data = text.encode(name, "replace")
    if text.startswith("<") and rng.random() < 0.5:
        declared = rng.choice([name, "latin-1", "utf-99", "utf-16", "cp037"])
        text = re.sub(r"^<\?xml.*?\?>", "", text)
        data = f'<?xml version="1.0" encoding="{declared}"?>{text}'.encode(name, "replace")
    return data


def cut_off(content, rng):
    if rng.random() < 0.1:
        return rng.choice([b"", b" ", b"\n\n", b"\0" * len(content)])
    return content[: rng.randrange(len(content) + 1)]


def add_noise(content, rng):
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data) + 1)
        what = rng.choice(("flip", "cut", "repeat", "put"))
        if what == "flip":
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif what == "cut":
            del data[at : at + rng.randint(1, 40)]
        elif what == "repeat":
            data[at:at] = data[at : at + rng.randint(1, 200)]
        else:
            data[at:at] = rng.choice(
                (b"NaN", b"1e999", b"-", b"9" * 50, b"\xff\xfe", b"<", b"&x;", b'"', b"]", b"\0")
            )
    return bytes(data)


def add_entities(content, rng):
    """What XML and YAML can be told to do: entities inside and outside, inclusions, aliases, objects."""
    text = content.decode("utf-8", "replace")
    if not text.lstrip().startswith("<"):
        evil = [
            "names: !!python/object/apply:os.system [id]\n",
            "a: &a [x]\nb: &b [*a,*a]\nnames: [*b,*b]\n",
            "{" * 3000,
        ]
        return (rng.choice(evil) + rng.choice([text, ""])).encode()
    text = re.sub(r"^<\?xml.*?\?>\s*", "", text)
    dtd = rng.choice(
        [
            '<!DOCTYPE a [<!ENTITY e "aaaa"><!ENTITY f "&e;&e;&e;">]>',
            '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
            '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">',
            '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
            '<?xml-stylesheet href="file:///etc/passwd"?>',
            "",
        ]
    )
    word = rng.choice(["tumor", "plain", "97"])
    inner = rng.choice(["&e;", "&undefined;", "<![CDATA[" + word + "]]>", "&#x110000;", "&#0;", "&amp;"])
    include = (
        '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/>'
    )
    text = (
        text.replace(word, inner, 1)
        if rng.random() < 0.5
        else re.sub(r"(<\w+>)", r"\1" + include, text, count=1)
    )
    return (dtd + text).encode()


DOCUMENT = [
    *[change_number] * 5,
    *[change_name] * 3,
    *[change_class] * 3,
    *[change_list] * 3,
    *[change_value, change_key] * 2,
    change_batch,
]
BYTES = [change_encoding, cut_off, add_noise, add_entities]


def tamper(files, rng):
    """The files {name: bytes} with one to three changes; names of files change as well."""
    files = dict(files)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(list(files))
        document = parsed(name, files[name]) if rng.random() < 0.8 else None
        if document is not None and not (isinstance(document, ElementTree.Element) and not len(document)):
            rng.choice(DOCUMENT)(document, rng)
            files[name] = written(document)
        elif rng.random() < 0.25:
            content = files.pop(name)
            if rng.random() < 0.8:
                files[
                    as_text(rng.choice([renamed(name, rng), "export.txt", "x" + PurePosixPath(name).suffix]))
                ] = content
            if not files or rng.random() < 0.3:
                files[name] = content
        else:
            files[name] = rng.choice(BYTES)(files[name], rng)
    return files


def packed(files, rng):
    """The files in a ZIP archive that may be hostile itself."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in files.items():
            archive.writestr(name.encode("utf-8", "replace").decode(), content)
        evil = rng.choice([None, None, None, "path", "link", "twice", "bomb", "nested"])
        if evil == "path":
            where = rng.choice(["../", "/tmp/", "a/../../", "C:\\", "..\\", "\\\\host\\", "~/"])
            archive.writestr(
                zipfile.ZipInfo(where + rng.choice(["x.xml", "x.json", "labels/plain.txt"])), b"0 1 1 1 1"
            )
        elif evil == "link":
            link = zipfile.ZipInfo("labels/link.txt")
            link.create_system, link.external_attr = 3, 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        elif evil == "twice":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr(next(iter(files)), b"{}")
        elif evil == "bomb":
            archive.writestr("bomb.txt", b" " * 3_000_000)
        elif evil == "nested":
            archive.writestr("inner.zip", b"PK\x03\x04")
    data = stream.getvalue()
    return add_noise(data, rng) if rng.random() < 0.2 else data
