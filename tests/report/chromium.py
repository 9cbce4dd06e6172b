"""A headless Chromium that a test can steer: the DevTools protocol over a pipe, by the standard library."""

import base64
import json
import os
import shutil
import subprocess
from contextlib import contextmanager

EXECUTABLE = (
    os.environ.get("OSAL_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
)
WITHOUT = "there is no chromium on the PATH, and OSAL_CHROMIUM names none"


@contextmanager
def browser(folder):
    """A page of a Chromium whose profile is in `folder`. It can reach no network."""
    out_read, out_write = os.pipe()  # Chromium reads descriptor 3 and writes descriptor 4
    in_read, in_write = os.pipe()
    words = [EXECUTABLE, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    words += [f"--user-data-dir={folder}", "--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run"]
    words += ["--disable-extensions", "--disable-background-networking", "--hide-scrollbars", "about:blank"]

    def place_descriptors():
        # Neither 3 nor 4 may be overwritten before it was copied.
        first, second = os.dup(out_read), os.dup(in_write)
        low = [d for d in (first, second) if d <= 4]
        first, second = (os.dup(d) if d in low else d for d in (first, second))
        os.dup2(first, 3)
        os.dup2(second, 4)

    process = subprocess.Popen(
        words,
        pass_fds=(3, 4, out_read, in_write),
        preexec_fn=place_descriptors,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(out_read)
    os.close(in_write)
    try:
        with open(in_read, "rb", buffering=0) as source, open(out_write, "wb", buffering=0) as sink:
            yield Page(source, sink)
    finally:
        process.terminate()
        process.wait(30)


class Page:
    """requests: addresses that were asked for. messages: of the console, errors and warnings of any kind."""

    def __init__(self, source, sink):
        self.source, self.sink, self.rest, self.number = source, sink, b"", 0
        self.requests, self.messages, self.loaded = [], [], False
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        return self._call(method, session=self.session, **parameters)

    def open(self, address, *, width, height=900, dark=False, media=""):
        """Load a page at this width in CSS pixels; wait until all of it is there."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.loaded = False
        self.call("Page.navigate", url=address)
        while not self.loaded:
            self._read()

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key, code=None):
        """A key of the keyboard."""
        words = {"key": key, "code": code or key, "windowsVirtualKeyCode": {"Tab": 9, "Enter": 13}[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **words, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **words)

    def screenshot(self, *, whole=True, top=0, height=None):
        """PNG of the page, or of a part of it."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {
            "x": 0,
            "y": top,
            "width": size["width"],
            "height": height or size["height"] - top,
            "scale": 1,
        }
        options = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", **options)["data"])

    def pdf(self):
        """The printed page."""
        return base64.b64decode(self.call("Page.printToPDF")["data"])

    def _call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        self.sink.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self):
        while b"\0" not in self.rest:
            part = self.source.read(1 << 20)
            assert part, "Chromium has ended"
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(line)
        method, words = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(words["request"]["url"])
        elif method == "Runtime.consoleAPICalled" or method == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(words))
        elif method == "Log.entryAdded":
            self.messages.append(words["entry"]["text"])
        elif method == "Page.loadEventFired":
            self.loaded = True
        return message
