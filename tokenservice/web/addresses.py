"""The address of a client, in any spelling of a socket or of a proxy."""

from __future__ import annotations

import ipaddress
import re

from flask import request
from werkzeug.http import parse_list_header

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


def behind(proxies: int, words: str, peer: str) -> Address | None:
    """The address of the client of a socket, as ``Proxies`` in web/app.py finds it.

    :param words: ``X-Forwarded-For``, which counts behind so many ``proxies``
    """
    entries = parse_list_header(words.replace('"', "")) if proxies else []
    return read(entries[-proxies] if entries and len(entries) >= proxies else peer)


def of_client() -> Address | None:
    return read(request.remote_addr or "")
