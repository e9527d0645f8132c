"""The guards of the terms that a presenter names: issuer, purpose, subject and action."""

from __future__ import annotations

from tests.house.guards import JUDGE, ONE_REQUEST, STORE, TERMS, Mutant

DIFFERS = "test_binding.py::test_a_mismatch_is_named_and_consumes_nothing"
MUTANTS = [
    Mutant(
        "issuer",
        TERMS,
        "if issuers ~= '' and not lists(issuers, record.owner) then return 'issued_by' end",
        "",
        (DIFFERS,),
    ),
    Mutant(
        "issuer: an idempotency key stands for it",
        STORE,
        "if given.issuers:",
        "if False:",
        (ONE_REQUEST,),
    ),
    Mutant(
        "issuer: an idempotency key stands for the words of the request",
        STORE,
        "given.asked or given.issuers",
        "given.issuers",
        ("test_idempotency.py::test_a_key_stands_for_the_issuers_that_were_asked_for",),
    ),
    Mutant(
        "purpose",
        TERMS,
        "if (record.purpose or '') ~= purpose then return 'purpose' end",
        "",
        (DIFFERS,),
    ),
    Mutant(
        "subject",
        TERMS,
        "if is_asked and record.subject ~= subject then return 'subject' end",
        "",
        (DIFFERS,),
    ),
    Mutant(
        "subject: a token may require it",
        TERMS,
        "subject ~= '' or record.require_subject",
        "subject ~= ''",
        (DIFFERS,),
    ),
    Mutant(
        "subject: an idempotency key stands for the demand",
        STORE,
        '["require_subject"] * terms.require_subject',
        "[]",
        ("test_idempotency.py::test_a_create_key_stands_for_the_demand_of_a_subject",),
    ),
    Mutant(
        "room for the data",
        TERMS,
        "if room ~= '' and #(record.data or '') > tonumber(room) then return 'data' end",
        "",
        (DIFFERS,),
    ),
    Mutant(
        "room for the data: an idempotency key stands for it",
        STORE,
        "request += [str(given.room)] * (given.room > 0)",
        "",
        ("test_idempotency.py::test_a_key_stands_for_the_room_for_data",),
    ),
    Mutant("bind", TERMS, "if (record.bind or '') ~= bind then return 'bind' end", "", (DIFFERS,)),
    Mutant(
        "terms: validate, reserve",
        JUDGE,
        "if field then return { 'token_mismatch', field } end",
        "",
        (DIFFERS,),
    ),
]
