"""A Label Studio server by its HTTP API, as far as a campaign needs it (1.8 to 1.23; standard library only).

The token comes from the environment and is kept in memory alone. Two kinds are in use: a personal access token (a JWT
that gives access for some minutes, since 1.20) and the legacy token, which newer servers have switched off.
"""

import json
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ..core.errors import ConfigError, DataError, OSALError
from ..core.store import read_json, write_json

TOKEN = "LABEL_STUDIO_API_KEY"  # as Label Studio's own SDK calls it
ADDRESS = "label-studio.json"
_PAGE = 100
_TIMEOUT = 60  # seconds
_LOCAL = ("localhost", "127.0.0.1", "::1")


class ServerError(OSALError):
    """The server cannot be reached, or refuses; nothing is lost: give the command again."""


class LabelStudio:
    """The server at `url`, for the owner of `token`. Raises ServerError, in one line, wherever it does not answer."""

    def __init__(self, url: str, token: str):
        self.url = check_address(url)
        self._token, self._access = token.strip(), ""
        if not self._token:
            raise ConfigError(
                f"{TOKEN} is not set: in Label Studio open Account & Settings > Access Tokens, then export {TOKEN}=..."
            )

    # ---- what a campaign asks ---------------------------------------------------------------------------
    def find_project(self, mark: str) -> dict | None:
        """The oldest project whose description has `mark`."""
        found, address = [], f"/api/projects?{urlencode({'page_size': _PAGE})}"
        while address:
            answer = self._call("GET", address)
            found += [p for p in self._part(answer, "results") if mark in (p.get("description") or "")]
            following = answer.get("next")
            parts = urlsplit(following or "")
            address = f"{parts.path[parts.path.index('/api/') :]}?{parts.query}" if following else ""
        return min(found, key=lambda project: project["id"], default=None)

    def make_project(self, **fields: object) -> dict:
        """A new project with these fields."""
        return self._call("POST", "/api/projects", fields)

    def change_project(self, project: int, **fields: object) -> dict:
        """Set fields of a project."""
        return self._call("PATCH", f"/api/projects/{project}", fields)

    def tasks(self, project: int) -> Iterator[dict]:
        """All tasks of a project with their annotations, in order."""
        page, seen = 1, 0
        while True:
            query = {"project": project, "page": page, "page_size": _PAGE, "fields": "all"}
            answer = self._call("GET", f"/api/tasks?{urlencode(query)}")
            tasks = self._part(answer, "tasks")
            yield from tasks
            page, seen = page + 1, seen + len(tasks)
            if not tasks or seen >= self._part(answer, "total"):
                return

    def uploads(self, project: int) -> dict[str, str]:
        """{our file name: path below the server} of the files in a project; the server puts 8 letters before it."""
        files = self._call("GET", f"/api/projects/{project}/file-uploads?all=true")
        found = {}
        for file in files:
            path = self._part(file, "file")
            found[path.rpartition("/")[2].partition("-")[2]] = path
        return found

    def upload(self, project: int, name: str, content: bytes) -> None:
        """Put an image into a project, without a task."""
        edge = secrets.token_hex(16)
        kind = "png" if name.endswith(".png") else "jpeg"
        head = (
            f'--{edge}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
            f"Content-Type: image/{kind}\r\n\r\n"
        )
        self._call(
            "POST",
            f"/api/projects/{project}/import?commit_to_project=false",
            head.encode() + content + f"\r\n--{edge}--\r\n".encode(),
            kind=f"multipart/form-data; boundary={edge}",
        )

    def add_tasks(self, project: int, tasks: Sequence[Mapping]) -> None:
        """Add tasks with their predictions, in order."""
        self._call("POST", f"/api/projects/{project}/import", list(tasks))

    def users(self) -> dict[int, str]:
        """{id: e-mail address} of the people of the server."""
        users = self._call("GET", "/api/users")
        return {self._part(user, "id"): self._part(user, "email") for user in users}

    # ---- HTTP -------------------------------------------------------------------------------------------
    def _call(self, method: str, path: str, body: object = None, *, kind: str = "application/json") -> Any:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        for last in (False, True):
            try:
                return self._send(method, path, data, {"Content-Type": kind, "Authorization": self._header()})
            except urllib.error.HTTPError as error:
                if error.code == 401 and self._is_personal and not last:
                    self._access = ""  # it has run out
                    continue
                raise self._refusal(method, path, error) from None

    def _part(self, answer: object, name: str) -> Any:
        """A field of an answer. Raises ServerError where it has another form than Label Studio's."""
        if not isinstance(answer, dict) or name not in answer:
            raise ServerError(
                f"{self.url}: answers without {name!r}, as no Label Studio from 1.8 to 1.23 does"
            )
        return answer[name]

    @property
    def _is_personal(self) -> bool:
        return self._token.count(".") == 2

    def _header(self) -> str:
        if not self._is_personal:
            return f"Token {self._token}"
        if not self._access:
            body = json.dumps({"refresh": self._token}).encode()
            try:
                answer = self._send("POST", "/api/token/refresh", body, {"Content-Type": "application/json"})
            except urllib.error.HTTPError as error:
                raise self._refusal("POST", "/api/token/refresh", error) from None
            self._access = self._part(answer, "access")
        return f"Bearer {self._access}"

    def _send(self, method: str, path: str, data: bytes | None, headers: Mapping) -> object:
        request = urllib.request.Request(self.url + path, data, dict(headers), method=method)
        try:
            with _OPENER.open(request, timeout=_TIMEOUT) as answer:
                text = answer.read()
        except urllib.error.HTTPError:
            raise
        except (OSError, ValueError) as error:  # URLError, time-outs, broken answers
            reason = getattr(error, "reason", None) or error
            raise ServerError(
                f"{self.url}: does not answer ({reason}); start Label Studio, check the address, give the command again"
            ) from None
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise ServerError(
                f"{self.url}{path}: is no Label Studio (it answers no JSON); check the address"
            ) from None

    def _refusal(self, method: str, path: str, error: urllib.error.HTTPError) -> OSALError:
        place = f"{self.url}{path.partition('?')[0]}"
        if error.code in (301, 302, 303, 307, 308):
            there = urlsplit(error.headers.get("Location", ""))
            return ConfigError(
                f"{self.url}: sends us on to {there.scheme}://{there.netloc}; give that address"
            )
        if error.code == 401:
            legacy = (
                "" if self._is_personal else " (a legacy token? newer servers want a personal access token)"
            )
            return ConfigError(
                f"{self.url}: does not take the token in {TOKEN}{legacy}; make one in Label Studio under Account & "
                "Settings"
            )
        try:
            content = json.loads(error.read(20_000))
            detail = content.get("validation_errors") or content.get("detail")
        except (ValueError, AttributeError, OSError):
            detail = error.reason
        return ServerError(
            f"{place}: refused {method} ({error.code}: {str(detail)[:300]}); give the command again"
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes to the address that was given and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def check_address(url: str) -> str:
    """The address without a slash at its end. Raises ConfigError for what is none, or has a password in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"--label-studio {quote(url, safe=':/')}: write it as http://localhost:8080")
    if parts.username or parts.password:
        raise ConfigError(
            f"--label-studio: leave name and password out of the address; the token goes into {TOKEN}"
        )
    return url.rstrip("/")


def sent_in_clear(url: str) -> bool:
    """Whether the token crosses a network unencrypted."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in _LOCAL


def token_of_environment() -> str:
    """The token, "" if there is none."""
    return os.environ.get(TOKEN, "")


def known_address(folder: Path) -> str:
    """The address that the campaign was synced with last; "" before. Raises DataError."""
    path = folder / ADDRESS
    if not path.is_file():
        return ""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("url"), str):
        raise DataError(f"{path}: has no url; delete the file and give --label-studio again")
    return content["url"]


def remember_address(folder: Path, url: str) -> None:
    """Keep the address, and nothing else, for the next sync."""
    if known_address(folder) != url:
        write_json(folder / ADDRESS, {"url": url})
