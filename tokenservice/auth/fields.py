"""Field types of an account."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError, fields

from settings.fields import rate
from tokenservice.auth import emails, passwords
from tokenservice.extensions import config


class Correo(fields.String):
    """An e-mail address, read in its canonical spelling."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        try:
            text = super()._deserialize(value, *args, **kwargs)
            return emails.canonical(text, local_domains=config.local_domains)
        except ValueError:
            raise ValidationError("Not an e-mail address.") from None


class Password(fields.String):
    """A password, NFKC, never trimmed, truncated or folded (ASVS 5.0 V6.2.8).

    Its length is checked before and after NFKC, which makes two characters of some.
    """

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        self._validate(text)
        try:
            text.encode()
        except UnicodeEncodeError:
            # From a command, whose input Python decodes leniently in some locales.
            raise ValidationError("Not a valid utf-8 string.") from None
        return passwords.normalized(text)


class Moment(fields.DateTime):
    """A time in UTC. Postgres gives it in the time zone of the server, or of PGTZ."""

    def _serialize(self, value: datetime | None, *args: Any, **kwargs: Any) -> Any:
        return super()._serialize(value and value.astimezone(UTC), *args, **kwargs)


class Cidr(fields.String):
    """A network of clients, or one address, in its canonical spelling."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, *args, **kwargs)
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            raise ValidationError("Not a network such as 192.0.2.0/24.") from None
        # A client with an IPv4 address is known by that (see web/addresses.py), and an interface
        # is one of this host.
        if network.version == 6 and (network.network_address.ipv4_mapped or "%" in text):
            raise ValidationError("Not a network such as 192.0.2.0/24.")
        return str(network)


class Rate(fields.String):
    """A rate in the words of the settings, and never "off"."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        words = super()._deserialize(value, *args, **kwargs).strip().lower()
        is_rate = words != "off" and len(words) <= 64
        try:
            rate(words if is_rate else "off")
        except ValidationError:
            is_rate = False
        if not is_rate:
            raise ValidationError('Takes a rate such as "60 per minute".')
        return words
