"""The text of a refresh token: whole, of this service, and derived from the one before."""

from __future__ import annotations

import re
import uuid

import pytest

from tokenservice.auth.refresh_tokens import PATTERN, RefreshToken, RefreshTokens
from tokenservice.onetime.errors import TokenMalformed
from tokenservice.onetime.format import ALPHABET, CHECKSUM, with_checksum
from tokenservice.telemetry.logs import SECRET_TEXTS

OURS, THEIRS = RefreshTokens(["x" * 32]), RefreshTokens(["y" * 32])
SESSION = uuid.UUID(int=7)


def successor_of(keys: RefreshTokens, token: RefreshToken) -> RefreshToken:
    return next(keys.successors(token))


def refused(text: str) -> bool:
    try:
        OURS.parse(text)
    except TokenMalformed:
        return True
    return False


def test_a_token_is_read_as_it_was_written() -> None:
    token = OURS.first(SESSION)
    assert OURS.parse(str(token)) == token
    assert token.session == SESSION
    assert len(str(token)) == 84
    assert str(token) not in repr(token)
    assert token.mac not in repr(token)
    assert OURS.first(SESSION) != token


def test_every_single_character_change_is_refused() -> None:
    """Guards: the checksum, and the MAC."""
    text = str(OURS.first(SESSION))
    for place in range(len(text)):
        for other in ALPHABET.replace(text[place], ""):
            assert refused(text[:place] + other + text[place + 1 :]), place
        assert refused(text[:place] + text[place + 1 :])
    for wrong in (text + "0", f" {text}", f"{text}\n", text.upper(), "", "osr_"):
        assert refused(wrong)


def test_a_change_with_the_right_checksum_is_refused() -> None:
    """Guard: the comparison of the MAC. Otherwise anyone could end any session."""
    body = str(OURS.first(SESSION))[:-CHECKSUM]
    for place in range(4, len(body)):
        other = "1" if body[place] == "0" else "0"
        assert refused(with_checksum(body[:place] + other + body[place + 1 :])), place


def test_a_token_of_another_key_is_refused() -> None:
    assert refused(str(THEIRS.first(SESSION)))
    with pytest.raises(TokenMalformed):
        THEIRS.parse(str(OURS.first(SESSION)))


def test_a_successor_is_always_the_same_and_of_the_same_session() -> None:
    """So that it can be told again, though nobody keeps it."""
    token = OURS.first(SESSION)
    successor = successor_of(OURS, token)
    assert successor == successor_of(OURS, OURS.parse(str(token)))
    assert successor.session == SESSION
    assert OURS.parse(str(successor)) == successor
    assert len({token.nonce, successor.nonce, successor_of(OURS, successor).nonce}) == 3
    assert successor_of(OURS, OURS.first(SESSION)) != successor


def test_a_scanner_and_the_log_find_it() -> None:
    text = str(OURS.first(SESSION))
    assert PATTERN.fullmatch(text)
    assert re.fullmatch(r"\w+", text)
    assert SECRET_TEXTS.sub("", f"a {text} b") == "a  b"
