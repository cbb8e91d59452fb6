"""Images on web servers: at public addresses, and on the servers that the job names itself.

Law: nothing connects to any other address, be it in a URI, the answer to a name, or where a server redirects to. Inside are
loopback, private and link-local ones, such as 169.254.169.254, where clouds give credentials to whoever asks.
"""

import errno
import socket
from collections.abc import Callable, Collection
from functools import cache
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem

SCHEMES = {"http": 80, "https": 443}
"""With their ports."""
_NAT64 = IPv6Network("64:ff9b::/96")
_TIMEOUT = aiohttp.ClientTimeout(total=300, sock_connect=20, sock_read=60)


def read(uri: str, servers: Collection[str], most: int) -> bytes:
    """The first `most` bytes at a URI; `servers` are URIs whose servers may be inside.

    Raises FileNotFoundError, and other OSErrors when the server or its address is refused or does not answer; with EAGAIN where it
    may answer later.
    """
    filesystem = _filesystem(tuple(sorted(servers)))
    try:
        return sync(filesystem.loop, _read, filesystem, uri, most)  # type: ignore[no-any-return]
    except aiohttp.ClientConnectorError as error:
        raise OSError(str(error.os_error)) from error
    except aiohttp.ClientResponseError as error:
        momentary = error.status == HTTPStatus.TOO_MANY_REQUESTS or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        raise OSError(errno.EAGAIN if momentary else errno.EACCES, f"the server answers {error.status}") from error
    except aiohttp.ClientError as error:
        raise OSError(f"the server cannot be asked ({type(error).__name__})") from error


async def _read(filesystem: HTTPFileSystem, uri: str, most: int) -> bytes:
    session: aiohttp.ClientSession = await filesystem.set_session()
    content = bytearray()
    async with session.get(uri) as response:
        if response.status in (404, 410):
            raise FileNotFoundError(uri)
        response.raise_for_status()
        async for part in response.content.iter_chunked(1 << 16):
            content += part
            if len(content) >= most:
                break
    return bytes(content[:most])


@cache
def _filesystem(servers: tuple[str, ...]) -> HTTPFileSystem:
    """fsspec's, for its loop and for the session that it closes at the end."""

    async def client(**options: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(socket_factory=_guarded(servers))
        # Compressed answers could unfold without end; images are compressed as they are.
        plain = {"Accept-Encoding": "identity"}
        return aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, headers=plain, auto_decompress=False)

    return HTTPFileSystem(get_client=client, skip_instance_cache=True)


def _guarded(servers: Collection[str]) -> Callable[[tuple[Any, ...]], socket.socket]:
    """A maker of sockets that knows where each will connect to: after names were resolved, and again after each redirect."""

    def make(target: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, (address, port, *_) = target
        if not is_public(address) and (address, port) not in _addresses(servers):
            raise OSError(f"{address} is an inside address; to allow it, name its server in data.allow")
        return socket.socket(family, kind, protocol)

    return make


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the internet; of an IPv6 one that stands for an IPv4 one, whether that does."""
    given = ip_address(address)
    inner = _embedded(given) if isinstance(given, IPv6Address) else given
    return inner.is_global and not inner.is_multicast


def _embedded(address: IPv6Address) -> IPv4Address | IPv6Address:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _addresses(servers: Collection[str]) -> set[tuple[str, int]]:
    """Address and port of each server, as they are now."""
    found = set()
    for uri in servers:
        parts = urlsplit(uri)
        port = parts.port or SCHEMES[parts.scheme]
        answers = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        found |= {(str(answer[4][0]), port) for answer in answers}
    return found
