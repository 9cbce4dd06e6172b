"""What is sent to a server and what is not, against a small one that answers as Label Studio does in these cases."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from osal_detectron2.campaign.label_studio import LabelStudio, ServerError, check_address
from osal_detectron2.core.errors import ConfigError

PERSONAL = "head.body.signature"


@pytest.fixture
def serve():
    """serve(answer): the address of a server; answer(method, path, headers) -> (status, headers, content)."""
    servers = []

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, content = answer(self.command, self.path, self.headers)
                self.send_response(status)
                for pair in headers.items():
                    self.send_header(*pair)
                self.end_headers()
                self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

            do_POST = do_GET

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_token_goes_nowhere_but_to_the_address_that_was_given(serve):
    seen = []
    other = serve(lambda method, path, headers: (seen.append(headers), (200, {}, []))[1])
    url = serve(lambda *_: (302, {"Location": f"{other}/api/users"}, b""))
    with pytest.raises(ConfigError, match=f"sends us on to {other}; give that address") as error:
        LabelStudio(url, "0123abcd").users()
    assert seen == [] and "0123abcd" not in str(error.value)


def test_an_access_that_has_run_out_is_renewed_once(serve):
    given, asked = iter(["first", "second"]), []

    def answer(method, path, headers):
        if path == "/api/token/refresh":
            return 200, {}, {"access": next(given)}
        asked.append(headers["Authorization"])
        return (200, {}, [{"id": 1, "email": "a@b.c"}]) if asked[-1] == "Bearer second" else (401, {}, {})

    assert LabelStudio(serve(answer), PERSONAL).users() == {1: "a@b.c"}
    assert asked == ["Bearer first", "Bearer second"]


def test_a_legacy_token_is_sent_as_one_and_a_refusal_says_what_is_wanted(serve):
    asked = []
    url = serve(lambda method, path, headers: (asked.append(headers["Authorization"]), (401, {}, {}))[1])
    with pytest.raises(ConfigError, match="newer servers want a personal access token") as error:
        LabelStudio(url, "0123abcd").users()
    assert asked == ["Token 0123abcd"] and "0123abcd" not in str(error.value)
    with pytest.raises(ConfigError, match="LABEL_STUDIO_API_KEY is not set"):
        LabelStudio(url, " ")


@pytest.mark.parametrize("content", [b"<html>a page</html>", {"detail": "?"}, [{"name": "x"}]])
def test_another_server_is_no_traceback(serve, content):
    api = LabelStudio(serve(lambda *_: (200, {}, content)), "0123abcd")
    for call in (lambda: api.find_project("x"), lambda: list(api.tasks(1)), lambda: api.uploads(1)):
        with pytest.raises(ServerError, match="is no Label Studio|as no Label Studio"):
            call()


def test_no_server_and_no_address_are_one_line():
    with pytest.raises(ServerError, match="does not answer .* give the command again"):
        LabelStudio("http://127.0.0.1:9", "0123abcd").users()
    for url in ("localhost:8080", "ftp://host", "http://anna:secret@host"):
        with pytest.raises(ConfigError) as error:
            check_address(url)
        assert "secret" not in str(error.value)
