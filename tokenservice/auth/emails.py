"""The canonical spelling of an e-mail address, which is the identity of an account."""

from __future__ import annotations

import unicodedata

from email_validator import EmailNotValidError, validate_email

from tokenservice.web.plaintext import is_plain

MAX_LENGTH = 254


def canonical(text: str) -> str:
    """The spelling under which ``text`` is stored, compared and counted.

    Trimmed, NFKC, lower case, internationalised domain in its Unicode form, so that two
    spellings of one mailbox are one account (ASVS 5.0 V1.1.1). Letters that only look alike,
    such as a dotless i, stay different: they are different mailboxes.

    :raises ValueError: it is not an e-mail address
    """
    folded = unicodedata.normalize("NFKC", text.strip()).lower()
    if len(folded) > MAX_LENGTH:
        raise ValueError("too long")
    if not is_plain(folded):
        raise ValueError("not plain text")
    try:
        address = validate_email(folded, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValueError("not an e-mail address") from error
    return unicodedata.normalize("NFKC", address)


def masked(correo: str) -> str:
    """A form that is safe in a log: ``a***@example.com``."""
    local, _, domain = correo.partition("@")
    return f"{local[:1]}***@{domain}"
