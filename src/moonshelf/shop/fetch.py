"""Photos by address: fetched only when asked for, once each, into a folder that later readings use.

An address comes from a table that anybody may have written, so it is not trusted: http and https alone, a size
limit, a time limit, and no machine of the inside (loopback, private and link-local addresses) unless the caller
says ``any``. The address is checked on the socket that is connected, before a byte is sent, so neither a redirect
nor a name that changes its address gets around it; proxies are not used for that reason when ``public`` is asked for.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from moonshelf import __version__
from moonshelf.errors import InputError
from moonshelf.progress import Progress
from moonshelf.workspace import atomic_write

Reach = Literal["public", "any"]
LIMIT = 64 << 20
TIMEOUT = 20.0
PATIENCE = 6  # times the timeout: the longest that one photo may take
TRIES = 3
WORKERS = 8
_AGAIN = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Failure:
    """A photo that could not be fetched, and why, in words for the reject file."""

    address: str
    reason: str


class _Refused(OSError):
    """An address that must not be reached."""


def is_address(image_id: str) -> bool:
    """Whether an image id is an http or https address."""
    return image_id.strip().lower().startswith(("http://", "https://"))


def place(folder: Path, address: str) -> Path:
    """The file of an address inside the download folder."""
    name = hashlib.sha256(address.strip().encode()).hexdigest()
    return folder / name[:2] / name


def fetch_photos(
    addresses: Iterable[str],
    folder: Path,
    *,
    reach: Reach = "public",
    limit: int = LIMIT,
    timeout: float = TIMEOUT,
    workers: int = WORKERS,
) -> list[Failure]:
    """Fetch every address that is not in ``folder`` yet; what could not be fetched is returned, nothing is raised.

    Args:
        folder: download folder; one file an address, written whole. A later call goes on where this one stopped.
        reach: ``public`` refuses machines of the inside, ``any`` does not.
        limit: largest size in bytes. timeout: seconds without an answer.
        workers: addresses fetched at a time.

    Raises:
        InputError: the disk is full.
    """
    wanted = {place(folder, a): a for a in addresses}
    todo = [a for path, a in wanted.items() if not path.is_file()]
    one = partial(_fetch, folder=folder, opener=_opener(reach), limit=limit, timeout=timeout)
    failures: list[Failure] = []
    with Progress(len(todo), "images: fetch", "images") as bar, ThreadPoolExecutor(workers) as pool:
        for address, reason in zip(todo, pool.map(one, todo), strict=True):
            if reason:
                failures.append(Failure(address, reason))
            bar.advance(1, f"{len(failures)} failed" if failures else "")
    return failures


def _fetch(
    address: str, *, folder: Path, opener: urllib.request.OpenerDirector, limit: int, timeout: float
) -> str:
    """Fetch one address; the reason when it failed, else nothing."""
    reason = ""
    for attempt in range(TRIES):
        try:
            request = urllib.request.Request(
                _plain(address), headers={"User-Agent": f"moonshelf/{__version__}"}
            )
            with opener.open(request, timeout=timeout) as answer:
                data = _body(answer, limit, time.monotonic() + PATIENCE * timeout)
            if len(data) > limit:
                return f"not fetched: larger than {limit >> 20} MiB"
            path = place(folder, address)
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data)
            return ""
        except urllib.error.HTTPError as error:
            reason = f"not fetched: the server says {error.code}"
            if error.code not in _AGAIN:
                return reason
        except InputError:
            raise
        except ValueError as error:  # no address that can be asked
            return f"not fetched: {str(error)[:80]}"
        except (OSError, http.client.HTTPException) as error:
            cause: Any = getattr(error, "reason", error)
            if isinstance(cause, _Refused):
                return f"not fetched: {cause}"
            reason = f"not fetched: {str(cause)[:80] or type(cause).__name__}"
        if attempt + 1 < TRIES:
            time.sleep(0.2 * 4**attempt)
    return reason


def _plain(address: str) -> str:
    """An address as it travels: other scripts and spaces encoded, what is encoded already left alone."""
    parts = urllib.parse.urlsplit(address.strip())
    path, query = (urllib.parse.quote(part, safe="/%:@!$&'()*+,;=~?") for part in (parts.path, parts.query))
    place = parts.netloc
    if not place.isascii():
        user, at, host_port = place.rpartition("@")
        host, colon, port = host_port.partition(
            ":"
        )  # only a name can be in another script, never an IPv6 address
        place = urllib.parse.quote(user, safe=":%") + at + host.encode("idna").decode() + colon + port
    return urllib.parse.urlunsplit((parts.scheme, place, path, query, ""))


def _body(answer: http.client.HTTPResponse, limit: int, deadline: float) -> bytes:
    """All bytes of an answer (at most one more than ``limit``).

    Raises:
        IncompleteRead: the connection ended before the announced length.
        TimeoutError: the deadline has passed.
    """
    data = bytearray()
    while len(data) <= limit:
        part = answer.read1(min(1 << 16, limit + 1 - len(data)))
        if not part:
            break
        data += part
        if time.monotonic() > deadline:
            raise TimeoutError("it took too long")
    if len(data) <= limit and answer.length:
        raise http.client.IncompleteRead(bytes(data), answer.length)
    return bytes(data)


def _opener(reach: Reach) -> urllib.request.OpenerDirector:
    """http and https alone: no file, ftp or data addresses, whatever a redirect says."""
    if reach not in ("public", "any"):
        raise InputError(f"unknown reach {reach!r}", mend="use public or any")
    opener = urllib.request.OpenerDirector()
    handlers: Sequence[urllib.request.BaseHandler] = (
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.UnknownHandler(),
        *([urllib.request.ProxyHandler()] if reach == "any" else []),
        urllib.request.HTTPHandler() if reach == "any" else _PublicHTTP(),
        urllib.request.HTTPSHandler() if reach == "any" else _PublicHTTPS(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    return opener


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the outside; IPv4 addresses inside IPv6 ones are looked at."""
    peer: Any = ipaddress.ip_address(address.split("%")[0])
    inner = []
    if peer.version == 6:
        inner = [peer.ipv4_mapped, peer.sixtofour, *(peer.teredo or ())]
        if peer in _NAT64 or int(peer) < 1 << 32:  # the last 32 bits are an IPv4 address
            inner.append(ipaddress.IPv4Address(int(peer) & 0xFFFFFFFF))
        if peer.ipv4_mapped is not None:
            return is_public(str(peer.ipv4_mapped))
    return bool(
        peer.is_global and not peer.is_multicast and all(is_public(str(i)) for i in inner if i is not None)
    )


def _guarded(*args: Any, **options: Any) -> socket.socket:
    """A connected socket, or none to a machine of the inside; before TLS says anything."""
    sock = socket.create_connection(*args, **options)
    peer = sock.getpeername()[0]
    if not is_public(peer):
        sock.close()
        raise _Refused(f"{peer} is not a public machine (--fetch any allows it)")
    return sock


class _Connection(http.client.HTTPConnection):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = _guarded


class _SecureConnection(http.client.HTTPSConnection):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = _guarded


class _PublicHTTP(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _PublicHTTPS(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req)
