"""HTML as text: whatever is not made by `tag` is escaped, so that no name out of a file can become markup."""

import html
import re
from collections.abc import Iterable, Sequence

from .style import CSS

VOID = {"meta", "link", "br"}
# Nothing may be fetched and nothing run, whatever stands in the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")


class Markup(str):
    """Text that is HTML already."""


Child = object  # Markup stays; None is left out; lists are gone through; anything else is text


def text(child: Child) -> Markup:
    """`child` as HTML: escaped, unless `tag` made it; characters that HTML forbids become U+FFFD."""
    if child is None:
        return Markup()
    if isinstance(child, Markup):
        return child
    if isinstance(child, (list, tuple)):
        return Markup("".join(map(text, child)))
    return Markup(_CONTROL.sub("\ufffd", html.escape(str(child))))


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element. Attributes: `cls` is class, "_" becomes "-", True stands bare, None and False are left out."""
    words = [name]
    for key, value in attributes.items():
        key = {"cls": "class"}.get(key, key.rstrip("_").replace("_", "-"))
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{text(value)}"')
    end = "" if name in VOID else f"</{name}>"
    return Markup(f"<{' '.join(words)}>{text(children)}{end}")


def section(name: str, title: str, *children: Child) -> Markup:
    """A section with a heading; `name` is where the table of contents leads."""
    return tag("section", tag("h2", title), *children, id=name, aria_label=title)


def table(
    caption: str, titles: Sequence[str], rows: Iterable[Sequence[Child]], *, words: Sequence[int] = (0,)
) -> Markup:
    """A table whose first column names the rows. words: the columns that hold text; the others are aligned as figures.

    It scrolls by itself where it is wider than the page, by keyboard too.
    """
    look = ["" if index in words else "n" for index in range(len(titles))]
    head = tag("tr", [tag("th", t, scope="col", cls=c or None) for t, c in zip(titles, look)])
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", cls=look[0] or None),
            [tag("td", cell, cls=c or None) for cell, c in zip(row[1:], look[1:])],
        )
        for row in rows
    ]
    inside = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body))
    return tag("div", inside, cls="scroll", role="region", aria_label=caption, tabindex=0)


def details(summary: str, *children: Child) -> Markup:
    """What opens at a click, or Enter, and is open on paper."""
    return tag("details", tag("summary", summary), *children)


def facts(pairs: Iterable[tuple[str, Child]]) -> Markup:
    """Names and their values, those without a value left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "")]
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in shown], cls="facts")


def note(*children: Child) -> Markup:
    """A sentence that must not be overlooked."""
    return tag("p", tag("strong", "Note. "), *children, cls="note")


def page(title: str, lead: Child, sections: Sequence[tuple[str, str, Child]], *, colours: str = "") -> bytes:
    """The whole document. sections: (name, title, content). colours: CSS of the classes and rounds that occur."""
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in sections]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(CSS + colours)),
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", cls="skip"),
        tag("header", tag("h1", title), lead),
        tag("nav", tag("ul", links), aria_label="Contents"),
        tag("main", [section(*one) for one in sections], id="content", tabindex=-1),
    )
    document = f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"
    return document.encode()
