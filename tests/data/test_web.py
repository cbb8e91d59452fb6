"""Web servers: what has an inside address is asked only where the job names its server."""

import errno
import http.server
import threading
from collections.abc import Iterator

import pytest

from uldscale.data import web


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives /content; /to/URL redirects there; /error fails."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.path == "/content":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bytes(range(256)) * 1000)
        elif self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        else:
            self.send_error(500 if self.path == "/error" else 404)

    def log_message(self, *arguments: object) -> None:
        """Stay quiet."""


def serve() -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def servers() -> Iterator[list[http.server.ThreadingHTTPServer]]:
    found = [serve(), serve()]
    yield found
    for server in found:
        server.shutdown()
        server.server_close()


@pytest.fixture
def places(servers: list[http.server.ThreadingHTTPServer]) -> list[str]:
    return [f"http://127.0.0.1:{server.server_port}" for server in servers]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00:ec2::254", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:a9fe:a9fe::1", False),
        ("64:ff9b::5db8:d822", True),
    ],
)
def test_which_addresses_are_of_the_internet(address: str, public: bool) -> None:
    assert web.is_public(address) == public


def test_an_inside_server_is_not_asked(servers: list[http.server.ThreadingHTTPServer], places: list[str]) -> None:
    port = places[0].rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"):
        # Numbers that are addresses in disguise are no host to the client at all.
        with pytest.raises(OSError, match="inside address|cannot be asked"):
            web.read(f"http://{host}:{port}/content", [places[1]], 100)
    assert servers[0].RequestHandlerClass.asked == 0  # type: ignore[attr-defined]


def test_an_inside_server_that_the_job_names_is_read(places: list[str]) -> None:
    whole = bytes(range(256)) * 1000
    assert web.read(f"{places[0]}/content", [places[0]], 10**6) == whole
    assert web.read(f"{places[0]}/content", [places[0]], 1000) == whole[:1000]


def test_a_redirect_leads_to_no_inside_server(
    servers: list[http.server.ThreadingHTTPServer], places: list[str]
) -> None:
    redirect = f"{places[0]}/to/{places[1]}/content"
    with pytest.raises(OSError, match="inside address"):
        web.read(redirect, [places[0]], 100)
    assert servers[1].RequestHandlerClass.asked == 0  # type: ignore[attr-defined]
    assert len(web.read(redirect, places, 100)) == 100


def test_what_a_server_refuses_is_an_error(places: list[str]) -> None:
    with pytest.raises(FileNotFoundError):
        web.read(f"{places[0]}/nothing", places, 100)
    with pytest.raises(OSError, match="answers 500") as caught:
        web.read(f"{places[0]}/error", places, 100)
    assert caught.value.errno == errno.EAGAIN
