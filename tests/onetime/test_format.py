"""The shape of a token."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenservice.onetime import format as tokens
from tokenservice.onetime.errors import TokenMalformed


def fresh() -> tokens.Token:
    return tokens.Token(tokens.random_base62(18), "0a1f", tokens.random_base62(28))


def test_a_token_reads_back_as_it_was_written() -> None:
    token = fresh()
    assert tokens.Token.parse(str(token)) == token


def test_a_double_click_selects_a_token_and_a_scanner_finds_it() -> None:
    text = str(fresh())
    assert re.fullmatch(r"\w+", text)
    assert tokens.TOKEN_PATTERN.fullmatch(text)


def test_every_single_character_typo_is_refused() -> None:
    """CRC32 finds every error that is shorter than 32 bits."""
    text = str(fresh())
    for place in range(len(text)):
        typo = text[:place] + ("x" if text[place] != "x" else "y") + text[place + 1 :]
        with pytest.raises(TokenMalformed):
            tokens.Token.parse(typo)


@given(st.text())
def test_any_text_but_a_token_is_malformed(text: str) -> None:
    with pytest.raises(TokenMalformed):
        tokens.Token.parse(text)


@pytest.mark.parametrize("end", ["\n", " ", "\0", "é"])
def test_nothing_may_follow_a_token(end: str) -> None:
    with pytest.raises(TokenMalformed):
        tokens.Token.parse(str(fresh()) + end)


def test_a_secret_has_at_least_160_bits_and_is_not_printed() -> None:
    token = fresh()
    assert 62**tokens.SECRET > 2**160
    assert token.secret not in repr(token)


def test_secrets_use_the_whole_alphabet_evenly() -> None:
    """A bias would show as a digit that is too rare: 62 digits over 280,000 draws, 4516 each."""
    drawn = "".join(tokens.random_base62(28) for _ in range(10_000))
    counts = [drawn.count(digit) for digit in tokens.ALPHABET]
    assert min(counts) > 4000
    assert max(counts) < 5050


def test_all_records_of_one_owner_share_a_tag() -> None:
    assert tokens.shard_tag("ana", 64) == tokens.shard_tag("ana", 64)
    assert len({tokens.shard_tag(f"user {n}", 64) for n in range(2000)}) == 64
    assert tokens.shard_tag("anyone", 1) == "00"
