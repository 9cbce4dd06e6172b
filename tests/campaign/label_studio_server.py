"""A real Label Studio of PyPI on this machine, with a database of its own that goes with the test."""

import http.cookiejar
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager

EXECUTABLE = os.environ.get("OSAL_LABEL_STUDIO", "")  # of an environment of its own: it needs another OpenCV
WITHOUT = "OSAL_LABEL_STUDIO names no label-studio executable"
EMAIL, PASSWORD = "anna@lab.example", "a-password-of-tests"


@contextmanager
def label_studio(folder):
    """(address, personal access token, session cookie) of a server whose files are in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    own = {
        "HOME": str(folder),
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "COLLECT_ANALYTICS": "false",
    }
    own |= {"LATEST_VERSION_CHECK": "false", "PYTHONPATH": ""}
    words = [EXECUTABLE, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    words += ["--username", EMAIL, "--password", PASSWORD]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(words, cwd=folder, env={**os.environ, **own}, stdout=log, stderr=log)
        try:
            _wait(url, process, folder / "server.log")
            yield (url, *_token(url))
        finally:
            process.terminate()
            process.wait(30)


def _wait(url, process, log, *, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{url}/api/version", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise AssertionError(f"no answer in {seconds} s: {log.read_text()[-2000:]}")


def _token(url):
    """Log in as a browser does, and make a personal access token as Account & Settings does."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    page = browser.open(f"{url}/user/login/").read().decode()
    form = {"csrfmiddlewaretoken": re.search(r'csrfmiddlewaretoken" value="([^"]+)"', page)[1]}
    form |= {"email": EMAIL, "password": PASSWORD}
    headers = {"Referer": f"{url}/user/login/"}
    browser.open(urllib.request.Request(f"{url}/user/login/", urllib.parse.urlencode(form).encode(), headers))
    cookies = {cookie.name: cookie.value for cookie in jar}
    headers = {"Content-Type": "application/json", "X-CSRFToken": cookies["csrftoken"], "Referer": f"{url}/"}
    answer = browser.open(urllib.request.Request(f"{url}/api/token/", b"{}", headers))
    return json.load(answer)["token"], cookies["sessionid"]
