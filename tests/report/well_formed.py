"""Whether HTML is well formed and holds what a screen reader needs, by the standard library's parser."""

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img"}


class Checked(HTMLParser):
    """elements: [(tag, attributes)]; words: [(enclosing tags, text)]; faults: what is wrong."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.elements, self.words, self.faults = [], [], [], []
        assert text.startswith("<!DOCTYPE html>")
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self.stack]
        ids = [a["id"] for _, a in self.elements if "id" in a]
        self.faults += [f"id {name} stands twice" for name in set(ids) if ids.count(name) > 1]
        for tag, attributes in self.elements:
            for name, value in attributes.items():
                self._check(tag, name, value or "", ids)

    def _check(self, tag, name, value, ids):
        if name.startswith("on"):
            self.faults.append(f"<{tag} {name}>")
        if name in ("href", "src", "xlink:href") and not value.startswith(("#", "data:")):
            self.faults.append(f"<{tag} {name}={value}> leads out of the page")
        if name == "href" and value.startswith("#") and value[1:] not in ids:
            self.faults.append(f"{value} leads nowhere")
        if name == "aria-labelledby":
            self.faults += [f"{part} labels nothing" for part in value.split() if part not in ids]

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        if len(names) != len(set(names)):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        self.words.append((tuple(self.stack), data))

    def of(self, tag):
        """The attributes of each element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self):
        """What can be read, without style."""
        return " ".join(" ".join(t for s, t in self.words if "style" not in s).split())
