"""The OpenAPI document in Spanish, for the page of the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tokenservice.auth import spanish as auth
from tokenservice.ops import spanish as ops
from tokenservice.token import spanish as token
from tokenservice.web import spanish as web

#: The members whose values are texts, and those whose members are.
TEXTS = {"summary", "description", "title", "detail"}
OF_TEXTS = {("info", "contact"), ("clientCredentials", "scopes")}
ROOMS = (web, auth, token, ops)


@pytest.fixture(scope="module")
def documents(make_app: Callable[..., Flask]) -> list[tuple[Any, Any]]:
    """The document in English and in Spanish, of services that say all that any does."""
    every_sentence = {"sandbox": True, "registration": "closed", "public_url": "https://t.example"}
    clients = [make_app(**settings).test_client() for settings in ({}, every_sentence)]
    return [
        (http.get("/openapi.json").get_json(), http.get("/openapi.json?lang=es").get_json())
        for http in clients
    ]


def texts(english: Any, spanish: Any, *names: str) -> Iterator[tuple[str, str]]:
    """Each text beside its translation. What is no text is the same in both."""
    if isinstance(english, dict):
        assert [*english] == [*spanish], names
        for name in english:
            yield from texts(english[name], spanish[name], *names, name)
    elif isinstance(english, list):
        for one, other in zip(english, spanish, strict=True):
            yield from texts(one, other, *names)
    elif isinstance(english, str) and (names[-1] in TEXTS or names[-3:-1] in OF_TEXTS):
        yield english, spanish
    else:
        assert english == spanish, names


def test_every_text_of_the_document_is_in_spanish(documents: list[tuple[Any, Any]]) -> None:
    """Guards: ``DOCUMENT`` in spanish.py of each room, and each ``language`` in openapi.py."""
    for english, spanish in documents:
        found = [pair for pair in texts(english, spanish) if pair[0] != english["info"]["title"]]
        assert len(found) > 900
        assert {one for one, other in found if one == other} == set()
        # A text that is put together is in one language too.
        for part in (" by default ", "; by default", "of `", "The operator"):
            assert not [other for _, other in found if part in f" {other}"], part


def test_every_spanish_text_translates_one_of_the_document(
    documents: list[tuple[Any, Any]],
) -> None:
    said = "\n".join(
        re.sub(r"(?<!\n)\n(?!\n)", " ", english)
        for document in documents
        for english, _ in texts(*document)
    )
    translated = [text for room in ROOMS for text in room.DOCUMENT]
    assert [text for text in translated if text not in said] == []
    assert len(translated) == len(set(translated))


def test_a_program_reads_the_document_in_english(client: FlaskClient) -> None:
    """In whatever language it prefers to read problems; and so do those of an unknown one."""
    plain = client.get("/openapi.json")
    assert plain.headers["Content-Type"] == "application/json"
    assert json.loads(plain.text)["tags"][1]["description"] == "Accounts"
    for path, accepted in (("", "es"), ("?lang=fr", "es"), ("?lang=", "es"), ("?lang=en", "es")):
        found = client.get(f"/openapi.json{path}", headers={"Accept-Language": accepted})
        assert found.data == plain.data
