"""The bounds of requests and connections, from gunicorn's settings."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gunicorn.config import Config

#: gunicorn's settings for what this worker does not do, or does in one way only.
UNSUPPORTED = (
    *("certfile", "keyfile", "ca_certs", "http_protocols", "http2_cleartext", "protocol"),
    *("proxy_protocol", "header_map", "permit_obsolete_folding", "strip_header_spaces"),
    *("permit_unconventional_http_method", "permit_unconventional_http_version"),
    *("casefold_http_method", "pre_request", "post_request", "sendfile", "dirty_apps"),
)
#: The limits that gunicorn's own parser has where a setting gives none.
MOST_LINE, MOST_FIELDS, MOST_FIELD_SIZE = 8190, 32768, 8190
#: Descriptors that are not connections: files, sockets to the stores, the worker's own.
OTHER_FILES = 200


@dataclass(frozen=True)
class Bounds:
    """The longest line, the most and the longest headers, and the longest body.

    :param secure: the headers by which a trusted proxy tells the scheme, and their secure values
    """

    line: int
    fields: int
    field_size: int
    body: int
    secure: Mapping[bytes, bytes] = field(default_factory=dict)


def unsupported(cfg: Config) -> list[str]:
    """The settings that say what would not be done."""
    given, default = cfg.settings, Config().settings
    return [name for name in UNSUPPORTED if given[name].value != default[name].value]


def bounds_of(cfg: Config, body: int) -> tuple[Bounds, Bounds]:
    """The limits of requests: of any client, and of a proxy that may tell the scheme.

    :param body: the longest body
    """
    line, fields, size = (
        cfg.limit_request_line,
        cfg.limit_request_fields,
        cfg.limit_request_field_size,
    )
    bounds = Bounds(
        min(line, MOST_LINE) if line >= 0 else MOST_LINE,
        fields if 0 < fields <= MOST_FIELDS else MOST_FIELDS,
        size if size > 0 else MOST_FIELD_SIZE,
        body,
    )
    secure = {
        name.lower().encode(): value.encode() for name, value in cfg.secure_scheme_headers.items()
    }
    return bounds, replace(bounds, secure=secure)


def raise_limit_of_files(wanted: int) -> int:
    """Let this process open a file for each connection. :returns: for how many it can"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = (
        wanted + OTHER_FILES if hard == resource.RLIM_INFINITY else min(wanted + OTHER_FILES, hard)
    )
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(1, most - OTHER_FILES)
