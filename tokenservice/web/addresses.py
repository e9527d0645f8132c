"""The address of a client, in any spelling of a socket or of a proxy."""

from __future__ import annotations

import functools
import ipaddress
import re

from flask import request
from werkzeug.http import parse_list_header

from tokenservice.extensions import config

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Proxies add the port of the client, and then write IPv6 in brackets.
WITH_PORT = re.compile(r"\[([^\[\]]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


def read(text: str) -> Address | None:
    """The address in ``text``, or None where there is none."""
    if found := WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        # A zone id (fe80::1%eth0) names an interface of the host that wrote it.
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped  # A dual-stack socket names an IPv4 client so.
    return address


#: The addresses that are kept in the form of the log.
REMEMBERED = 4096


@functools.lru_cache(maxsize=REMEMBERED)
def behind(proxies: int, words: str, peer: str) -> Address | None:
    """The address of the client of a socket, as ``Proxies`` in web/app.py finds it.

    :param words: ``X-Forwarded-For``, which counts behind so many ``proxies``
    """
    entries = parse_list_header(words.replace('"', "")) if proxies else []
    return read(entries[-proxies] if entries and len(entries) >= proxies else peer)


@functools.lru_cache(maxsize=REMEMBERED)
def shown(address: Address | None, how: str) -> str:
    """An address as logs and the audit trail show it, or "".

    :param how: ``whole``, ``network`` (the /24 or /64), or ``none``
    """
    if address is None or how == "none":
        return ""
    if how == "whole":
        return str(address)
    bits = 24 if address.version == 4 else 64
    return str(ipaddress.ip_network((address, bits), strict=False))


def of_client() -> Address | None:
    return read(request.remote_addr or "")


def set_client(peer: str) -> None:
    """Give the present request, which came past ``Proxies``, its client."""
    words = request.headers.get("X-Forwarded-For", "")
    request.remote_addr = str(behind(config.trusted_proxies, words, peer) or "")
