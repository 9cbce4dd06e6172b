"""A tool's file as a document whose values and lists can be found and replaced, whatever its form."""

import json
from xml.etree import ElementTree


def leaves(document):
    """(value, put) of each value; put(new) replaces it."""
    if isinstance(document, ElementTree.Element):
        for element in document.iter():
            for name, value in element.attrib.items():
                yield value, lambda new, e=element, n=name: e.attrib.__setitem__(n, as_text(new))
            if (element.text or "").strip():
                yield element.text, lambda new, e=element: setattr(e, "text", as_text(new))
    elif isinstance(document, Lines):
        for row, words in enumerate(document.rows):
            for column, value in enumerate(words):
                yield value, lambda new, r=row, c=column: document.rows[r].__setitem__(c, as_text(new))
    else:
        items = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in list(items):
            if isinstance(value, (dict, list)):
                yield from leaves(value)
            else:
                yield value, lambda new, d=document, k=key: d.__setitem__(k, new)


def lists(document):
    """Each list of things in a document: of dicts or lists, of elements, of rows."""
    if isinstance(document, ElementTree.Element):
        yield from (element for element in document.iter() if len(element))
    elif isinstance(document, Lines):
        yield document.rows
    elif isinstance(document, (dict, list)):
        if isinstance(document, list) and document:
            yield document
        for value in document.values() if isinstance(document, dict) else document:
            yield from lists(value)


class Lines:
    """A text file of words in lines (YOLO)."""

    def __init__(self, text):
        self.rows = [line.split(" ") for line in text.splitlines()]

    def __str__(self):
        return "".join(" ".join(words) + "\n" for words in self.rows)


def as_text(value):
    text = value if isinstance(value, str) else str(value)
    return "".join(letter for letter in text if letter >= " " or letter == "\n")


def parsed(name, content):
    """The document of a file; None where it is none any more."""
    try:
        if name.endswith((".json", ".geojson")):
            document = json.loads(content)
            return document if isinstance(document, (dict, list)) else None
        if name.endswith(".xml"):
            return ElementTree.fromstring(content)
        return Lines(content.decode())
    except (ValueError, LookupError, ElementTree.ParseError, RecursionError):
        return None


def written(document):
    if isinstance(document, ElementTree.Element):
        return ElementTree.tostring(document, encoding="unicode").encode("utf-8", "surrogatepass")
    text = str(document) if isinstance(document, Lines) else json.dumps(document)
    return text.encode("utf-8", "surrogatepass")


def dicts(document):
    if isinstance(document, dict):
        yield document
    if isinstance(document, (dict, list)):
        for value in document.values() if isinstance(document, dict) else document:
            yield from dicts(value)
