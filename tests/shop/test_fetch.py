"""Photos by address, from a real server on this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from moonshelf.errors import InputError
from moonshelf.pipeline import open_extra
from moonshelf.shop import fetch
from moonshelf.shop.fetch import fetch_photos, is_public, place
from moonshelf.shop.shop import Shop, open_shop

Photo = Callable[..., bytes]


class Server:
    """Serves bytes by path and counts what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.trouble: dict[str, int] = {}  # path -> times that it answers 503 first
        self.asked: list[str] = []
        self.short: set[str] = set()  # paths whose connection ends before the announced length
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if outer.trouble.get(self.path, 0) > 0:
                    outer.trouble[self.path] -= 1
                    self.send_error(503)
                elif self.path in outer.moved:
                    self.send_response(302)
                    self.send_header("Location", outer.moved[self.path])
                    self.end_headers()
                elif self.path in outer.files:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(outer.files[self.path])))
                    self.end_headers()
                    data = outer.files[self.path]
                    self.wfile.write(data[: len(data) // 2] if self.path in outer.short else data)
                else:
                    self.send_error(404)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_photos_are_fetched_once_and_trouble_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.files = {"/a": b"aaa", "/b": b"bbb"}
    server.trouble = {"/b": 2}
    wanted = [f"{server.url}{p}" for p in ("/a", "/b", "/a")]
    assert fetch_photos(wanted, tmp_path, reach="any") == []
    assert [place(tmp_path, a).read_bytes() for a in wanted] == [b"aaa", b"bbb", b"aaa"]
    assert server.asked.count("/a") == 1 and server.asked.count("/b") == 3
    assert fetch_photos(wanted, tmp_path, reach="any") == [] and len(server.asked) == 4


def test_what_cannot_be_fetched_has_a_reason(server: Server, tmp_path: Path) -> None:
    server.files["/big"] = b"x" * 100
    server.moved = {"/file": "file:///etc/passwd", "/round": "/round"}
    wanted = [f"{server.url}/{p}" for p in ("gone", "big", "file", "round")] + ["http://nowhere.invalid/a"]
    reasons = {
        f.address.rsplit("/", 1)[1]: f.reason for f in fetch_photos(wanted, tmp_path, reach="any", limit=10)
    }
    assert reasons["gone"] == "not fetched: the server says 404"
    assert reasons["big"].startswith("not fetched: larger than")
    assert all(name in reasons for name in ("file", "round", "a"))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_machines_of_the_inside_are_refused_unless_asked_for(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = b"secret"
    [failure] = fetch_photos([f"{server.url}/a"], tmp_path)
    assert "127.0.0.1 is not a public machine" in failure.reason
    assert server.asked == []  # the check comes before the question
    with pytest.raises(InputError, match="public or any"):
        fetch_photos([f"{server.url}/a"], tmp_path, reach="all")  # type: ignore[arg-type]


def test_nothing_is_said_to_machines_of_the_inside_not_even_tls(tmp_path: Path) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def listen() -> None:
            connection, _ = listening.accept()
            with connection:
                heard.append(connection.recv(100))

        thread = threading.Thread(target=listen)
        thread.start()
        [failure] = fetch_photos([f"https://127.0.0.1:{listening.getsockname()[1]}/a"], tmp_path)
        thread.join(10)
    assert "127.0.0.1 is not a public machine" in failure.reason and heard == [b""]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("64:ff9b::5db8:d822", True),
        ("10.0.0.1", False), ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False),
        ("::1", False), ("fe80::1%eth0", False), ("::ffff:10.0.0.1", False), ("::7f00:1", False),
        ("64:ff9b::a00:1", False), ("2002:7f00:1::", False), ("ff0e::1", False),
    ],
)  # fmt: skip
def test_which_machines_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_connection_that_ends_early_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TRIES", 1)
    server.files["/a"] = b"x" * 1000
    server.short = {"/a"}
    [failure] = fetch_photos([f"{server.url}/a"], tmp_path, reach="any")
    assert "IncompleteRead" in failure.reason and not place(tmp_path, f"{server.url}/a").exists()
    server.short = set()
    assert fetch_photos([f"{server.url}/a"], tmp_path, reach="any") == []


def test_addresses_in_other_scripts_and_with_spaces(server: Server, tmp_path: Path) -> None:
    server.files = {"/%E5%95%86%E5%93%81%201.jpg?v=%E7%BA%A2": b"one", "/a%20b": b"two"}
    wanted = [f"{server.url}/商品 1.jpg?v=红", f" {server.url}/a%20b", f"{server.url}/a%20b"]
    assert fetch_photos(wanted, tmp_path, reach="any") == []
    assert [place(tmp_path, a).read_bytes() for a in wanted] == [b"one", b"two", b"two"]
    assert len(server.asked) == 2
    [failure] = fetch_photos(["http://[broken/a"], tmp_path, reach="any")
    assert failure.reason.startswith("not fetched: ")


@pytest.fixture
def raw_shop(server: Server, tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOONSHELF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "TRIES", 1)
    server.files["/1.jpg"] = photo(1)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "local.jpg").write_bytes(photo(2))
    ids = [[f"{server.url}/1.jpg", "local.jpg", f"{server.url}/late.jpg"]]
    pl.DataFrame({"product_id": ["1"], "title": ["mug"], "image_ids": ids}).write_parquet(
        raw / "products.parquet"
    )
    return raw


def test_a_shop_with_addresses(server: Server, raw_shop: Path, photo: Photo) -> None:
    def photos(shop: Shop) -> list[str]:
        return [i.rsplit("/", 1)[-1] for i in shop.product("1").image_ids]

    plain = open_shop(raw_shop)
    assert photos(plain) == ["local.jpg"] and server.asked == []
    assert "with --fetch" in " ".join(plain.rejects["reason"])
    found = open_shop(raw_shop, fetch="any")
    assert photos(found) == ["1.jpg", "local.jpg"]
    assert found.images.read(found.product("1").image_ids[0]) == photo(1)
    assert "the server says 404" in " ".join(found.rejects["reason"])
    before = found.fingerprint
    server.files["/late.jpg"] = photo(3)  # asked for again, what failed is tried again, the rest is not
    assert photos(open_shop(raw_shop, fetch="any")) == ["1.jpg", "local.jpg", "late.jpg"]
    assert sorted(server.asked) == ["/1.jpg", "/late.jpg", "/late.jpg"]  # fetched side by side, in any order
    # photos that came later make it other data: what was trained on the fewer ones does not pass for done
    assert open_shop(raw_shop, fetch="any").fingerprint != before
    assert len(server.asked) == 3


def test_shops_that_lend_photos_are_fetched_too(server: Server, raw_shop: Path, shop: Shop) -> None:
    [refused] = open_extra([raw_shop], shop)
    assert len(refused.images) == 1 and server.asked == []
    [lent] = open_extra([raw_shop], shop, "any")
    assert len(lent.images) == 2


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("http://пример.рф:8080/a b.jpg?c=я", "http://xn--e1afmkfd.xn--p1ai:8080/a%20b.jpg?c=%D1%8F"),
        ("https://пример.рф/x.jpg", "https://xn--e1afmkfd.xn--p1ai/x.jpg"),
        ("http://name:pass@пример.рф/x.jpg", "http://name:pass@xn--e1afmkfd.xn--p1ai/x.jpg"),
        ("http://[::1]:80/%20x.jpg", "http://[::1]:80/%20x.jpg"),
    ],
)
def test_an_address_in_any_script_travels_in_ascii(written: str, sent: str) -> None:
    assert fetch._plain(written) == sent
