"""The canonical spelling of an e-mail address, which is the identity of an account."""

from __future__ import annotations

import unicodedata

import email_validator

from tokenservice.web.plaintext import is_plain

MAX_LENGTH = 254
#: Domains that exist in closed networks only. The library refuses those that are on its list.
LOCAL_DOMAINS = ("local", "test")
for domain in LOCAL_DOMAINS:
    email_validator.SPECIAL_USE_DOMAIN_NAMES.remove(domain)


def canonical(text: str, *, local_domains: bool = False) -> str:
    """The spelling under which ``text`` is stored, compared and counted.

    Trimmed, NFKC, lower case, internationalised domain in its Unicode form, so that two
    spellings of one mailbox are one account (ASVS 5.0 V1.1.1). Letters that only look alike,
    such as a dotless i, stay different: they are different mailboxes.

    :param local_domains: the setting of this name
    :raises ValueError: it is not an e-mail address
    """
    folded = unicodedata.normalize("NFKC", text.strip()).lower()
    if len(folded) > MAX_LENGTH:
        raise ValueError("too long")
    if not is_plain(folded):
        raise ValueError("not plain text")
    try:
        found = email_validator.validate_email(folded, check_deliverability=False)
    except email_validator.EmailNotValidError as error:
        raise ValueError("not an e-mail address") from error
    if not local_domains and found.ascii_domain.rpartition(".")[2] in LOCAL_DOMAINS:
        raise ValueError("at a domain of closed networks")
    return unicodedata.normalize("NFKC", found.normalized)


def masked(correo: str) -> str:
    """A form that is safe in a log: ``a***@example.com``."""
    local, _, domain = correo.partition("@")
    return f"{local[:1]}***@{domain}"
