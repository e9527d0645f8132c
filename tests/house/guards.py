"""The guards of the engine: the change that breaks each, and the tests that then fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ENGINE = "tokenservice/onetime"


@dataclass(frozen=True)
class Mutant:
    """A guard and its break: ``old`` stands in ``file`` once, and becomes ``new``."""

    guard: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def broken(self, root: Path) -> str:
        """The text of ``file`` without the guard."""
        text = (root / ENGINE / self.file).read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"{self.guard}: not once in {self.file}"
        return text.replace(self.old, self.new)

    def apply(self, root: Path) -> None:
        (root / ENGINE / self.file).write_text(self.broken(root), encoding="utf-8")


PRELUDE, JUDGE, CREATE, VALIDATE = (
    f"scripts/{name}.lua" for name in ("prelude", "judge", "create", "validate")
)
RESERVE, COMMIT, RELEASE, REVOKE = (
    f"scripts/{name}.lua" for name in ("reserve", "commit", "release", "revoke")
)
AGAIN, RECEIPT, TERMS = "scripts/again.lua", "scripts/receipt.lua", "scripts/terms.lua"
STORE, FORMAT, CONNECTION = "store.py", "format.py", "connection.py"
WRONG_SECRET = "if record.verifier ~= verifier then return missing(epoch) end"
REVEALING = WRONG_SECRET.replace("missing(epoch)", "{ 'token_unknown' }")
WRONG_TO_REVOKE = "if record.verifier ~= verifier then return reply(missing(epoch)) end"
NOT_ADMITTED = "if not admits(record, caller, correo) then return { 'token_not_for_caller' } end"
IS_HELD = "if state == 'reserved' then return { 'token_reserved', record.lease - now } end"
TURNED_AWAY = "= turned_away(record, verifier, epoch, caller, correo)"
WRONG_NONCE = "if state ~= 'reserved' or record.nonce ~= nonce then"
FORGED = "test_guards.py::test_a_forged_secret_opens_nothing"
MADE_UP = "test_guards.py::test_a_made_up_token_does_not_reveal_whether_its_id_exists"
AUDIENCE = "test_binding.py::test_only_the_audience_may_consume"
NAMES = "test_binding.py::test_a_pattern_in_a_name_is_only_a_name"
HOLDER = "test_lease.py::test_a_held_token_is_for_its_holder_alone"
LEASE = "test_lease.py::test_a_lease_that_ends_gives_the_token_back"
REVOKED = "test_receipts.py::test_a_revoked_token_cannot_be_used"
REVOKER = "test_receipts.py::test_only_owner_and_audience_revoke"
HELD = "test_receipts.py::test_a_consumed_or_reserved_token_cannot_be_revoked"
ENTITLED = "test_receipts.py::test_introspection_consumes_nothing_and_is_for_the_entitled_alone"
CAP = "test_receipts.py::test_the_cap_holds_and_an_ended_token_frees_a_place"
FULL = "test_store.py::test_a_full_server_still_consumes"
FULL_TOO = "test_guards.py::test_a_full_server_still_releases_and_revokes"
RESTORED = "test_put_back.py::test_a_restored_token_is_lost_and_not_honoured_again"
ANOTHER = "test_idempotency.py::test_two_callers_may_choose_the_same_key"
SAYS_NOW = "test_idempotency.py::test_a_repeated_create_says_what_is_so_now"
ASKED = "test_idempotency.py::test_a_create_key_stands_for_the_audience_that_was_asked_for"
ONE_REQUEST = "test_idempotency.py::test_a_key_stands_for_one_request"
MUTANTS = [
    Mutant(
        "fence",
        PRELUDE,
        "if record.term ~= term_now then return 'lost' end",
        "",
        ("test_crash.py::test_no_token_is_consumed_twice_across_a_crash",),
    ),
    Mutant(
        "fence: mastership",
        PRELUDE,
        " .. begin(replication, '\\nmaster_replid:')",
        "",
        ("test_failover.py::test_a_repromoted_process_honours_no_earlier_token",),
    ),
    Mutant(
        "a replica decides nothing",
        PRELUDE,
        "return redis.error_reply('READONLY A replica judges no token.')",
        "",
        ("test_failover.py::test_a_replica_decides_nothing",),
    ),
    Mutant(
        "fence: a create is not replayed from another term",
        CREATE,
        "if string.sub(kept, 1, #issued_in) == issued_in then",
        "if true then",
        ("test_guards.py::test_a_create_is_not_replayed_after_a_restart",),
    ),
    Mutant(
        "epoch: a token of another term is lost",
        JUDGE,
        "issued_here and 'token_unknown' or 'token_lost'",
        "'token_unknown'",
        ("test_store.py::test_a_stopped_server_is_unavailable_and_a_restarted_one_serves",),
    ),
    Mutant(
        "epoch: a token that never existed is unknown",
        JUDGE,
        "issued_here and 'token_unknown' or 'token_lost'",
        "'token_lost'",
        ("test_store.py::test_a_token_that_never_existed_is_unknown",),
    ),
    Mutant("verifier: validate, reserve", JUDGE, WRONG_SECRET, "", (FORGED,)),
    Mutant("verifier and audience: validate", VALIDATE, TURNED_AWAY, "= false", (FORGED,)),
    Mutant("verifier and audience: reserve", RESERVE, TURNED_AWAY, "= false", (FORGED,)),
    Mutant("verifier: revoke", REVOKE, WRONG_TO_REVOKE, "", (FORGED,)),
    Mutant("an id that exists: validate, reserve", JUDGE, WRONG_SECRET, REVEALING, (MADE_UP,)),
    Mutant(
        "an id that exists: revoke",
        REVOKE,
        WRONG_TO_REVOKE,
        WRONG_TO_REVOKE.replace("missing(epoch)", "{ 'token_unknown' }"),
        (MADE_UP,),
    ),
    Mutant(
        "verifier: introspect",
        STORE,
        "if seen is None or not hmac.compare_digest(seen.verifier, verifier(token.secret)):",
        "if seen is None:",
        (FORGED,),
    ),
    Mutant(
        "checksum",
        FORMAT,
        " or with_checksum(text[:-CHECKSUM]) != text",
        "",
        ("test_format.py::test_every_single_character_typo_is_refused",),
    ),
    Mutant(
        "lease owner: the MAC is compared",
        STORE,
        "if not any(held.is_held_by(holder.holder, secret) for secret in self._keys):",
        "if False:",
        (HOLDER,),
    ),
    Mutant(
        "fallbacks",
        STORE,
        "for each in (secret, *fallbacks)]",
        "for each in (secret,)]",
        ("test_fallbacks.py::test_what_a_fallback_signed_is_honoured",),
    ),
    Mutant(
        "lease owner: the holder is in the MAC",
        FORMAT,
        "derived_secret(key, RESERVATION, token_id, nonce, holder)",
        "derived_secret(key, RESERVATION, token_id, nonce)",
        (HOLDER,),
    ),
    Mutant(
        "lease end",
        PRELUDE,
        "record.state == 'reserved' and now < tonumber(record.lease)",
        "record.state == 'reserved'",
        (LEASE,),
    ),
    Mutant(
        "lease outlasts the life",
        PRELUDE,
        "if not held and now >=",
        "if now >=",
        ("test_lease.py::test_a_lease_may_outlast_the_life_of_its_token",),
    ),
    Mutant("lease: validate, reserve", JUDGE, IS_HELD, "", (HOLDER,)),
    Mutant(
        "state and lease: validate",
        VALIDATE,
        "refused = unusable(record, state, purpose, subject, bind, issuers, room)",
        "",
        (HOLDER,),
    ),
    Mutant(
        "state and lease: reserve",
        RESERVE,
        "refused = unusable(record, state, purpose, subject, bind, issuers, room)",
        "",
        (HOLDER,),
    ),
    Mutant(
        "lease: revoke",
        REVOKE,
        "if state == 'reserved' then return reply({ 'token_reserved', record.lease - now }) end\n"
        "if state ~= 'active' then",
        "if state ~= 'active' and state ~= 'reserved' then",
        (HELD,),
    ),
    Mutant(
        "lease: an ended one is not replayed",
        RESERVE,
        "if not holds then return reply({ 'lease_ended' }) end",
        "",
        ("test_idempotency.py::test_a_reservation_is_replayed_while_it_lasts",),
    ),
    Mutant("nonce: commit", COMMIT, WRONG_NONCE, "if state ~= 'reserved' then", (LEASE,)),
    Mutant(
        "nonce: release",
        RELEASE,
        WRONG_NONCE,
        "if state ~= 'reserved' then",
        ("test_guards.py::test_an_ended_lease_cannot_release_the_next",),
    ),
    Mutant("audience: admits", TERMS, "if not record.audience then", "if true then", (AUDIENCE,)),
    Mutant("audience: whole names", TERMS, "'\\n' .. member .. '\\n', 1", "member, 1", (AUDIENCE,)),
    Mutant("audience: plain names", TERMS, "'\\n' .. member .. '\\n', 1, true", "member", (NAMES,)),
    Mutant("audience: validate, reserve", JUDGE, NOT_ADMITTED, "", (AUDIENCE,)),
    Mutant(
        "audience: revoke",
        REVOKE,
        "record.owner ~= caller and not admits(record, caller, correo)",
        "false",
        (REVOKER,),
    ),
    Mutant(
        "audience: introspect",
        STORE,
        "if not seen.is_for(caller, issuers):",
        "if False:",
        (ENTITLED,),
    ),
    Mutant(
        "expiry",
        PRELUDE,
        "if not held and now >= tonumber(record.expires) then return 'expired' end",
        "",
        ("test_store.py::test_an_expired_token_is_refused_as_expired",),
    ),
    Mutant(
        "consumed state",
        JUDGE,
        "'state', 'consumed', 'consumed', now, 'consumer', caller)",
        "'consumed', now, 'consumer', caller)",
        ("test_store.py::test_a_token_is_consumed_once",),
    ),
    Mutant(
        "consumed and revoked are believed in any term",
        PRELUDE,
        "if record.state == 'consumed' or record.state == 'revoked' then",
        "if record.term == term_now and (record.state == 'consumed' or record.state == 'revoked')"
        " then",
        ("test_guards.py::test_a_final_state_survives_a_restart",),
    ),
    Mutant(
        "revoked state",
        PRELUDE,
        "record.state == 'consumed' or record.state == 'revoked'",
        "record.state == 'consumed'",
        (REVOKED,),
    ),
    Mutant(
        "revoke: by its owner alone",
        REVOKE,
        "if record.owner ~= caller then return reply({ 'token_unknown' }) end",
        "",
        (REVOKER,),
    ),
    Mutant(
        "receipt: for its readers alone",
        STORE,
        "if seen is None or not (reader is None or seen.names(reader)):",
        "if seen is None:",
        ("test_receipts.py::test_a_receipt_is_for_owner_and_audience",),
    ),
    Mutant(
        "cap",
        CREATE,
        "+ added - most",
        "+ added - most - 1",
        (CAP,),
    ),
    Mutant("batch: all or none under the cap", CREATE, "+ added - most", "+ 1 - most", (CAP,)),
    Mutant(
        "batch: none at all on a full server",
        CREATE,
        "local expires = now + life",
        "local expires = now + life\nredis.call('ZREMRANGEBYSCORE', live, '-inf', now)",
        (FULL,),
    ),
    Mutant(
        "cap: an ended token frees a place",
        JUDGE,
        "return redis.call('ZREM', live, id) == 1 or not record.seq",
        "return true",
        (CAP,),
    ),
    Mutant(
        "history: a record that is restored alone is lost",
        JUDGE,
        "return redis.call('ZREM', live, id) == 1 or not record.seq",
        "redis.call('ZREM', live, id)\n  return true",
        (RESTORED,),
    ),
    Mutant(
        "history: a record that is restored alone cannot be reserved",
        RESERVE,
        "if record.seq and not redis.call('ZSCORE', live, id) then"
        " return reply({ 'token_lost' }) end",
        "",
        (RESTORED,),
    ),
    Mutant(
        "history: restored data are noticed",
        PRELUDE,
        "if known > tonumber(count) then",
        "if false then",
        (RESTORED,),
    ),
    Mutant(
        "history: restored data are lost to every store",
        PRELUDE,
        "if floor and seq < tonumber(floor) then return 'lost' end",
        "",
        ("test_put_back.py::test_restored_data_are_lost_to_every_store_once_one_notices",),
    ),
    Mutant(
        "history: every change is counted",
        JUDGE,
        "count = redis.call('HINCRBY', KEYS[1], 'count', 1)",
        "",
        (RESTORED,),
    ),
    Mutant(
        "fence: a slot that comes back",
        PRELUDE,
        "  term_now = term_now .. ':' .. epoch .. ':'\n",
        "",
        ("test_slots.py::test_a_slot_that_comes_back_honours_no_earlier_token",),
    ),
    Mutant(
        "slots: a call waits for one that arrives",
        CONNECTION,
        "MOVING = (AskError, TryAgainError, ClusterDownError)",
        "MOVING = ()",
        ("test_slots.py::test_a_call_waits_for_a_slot_that_arrives_in_time",),
    ),
    Mutant(
        "cap: a lost token takes no place",
        CREATE,
        "local mark = term_now .. ' ' .. (floor or '')",
        "local mark = ' '",
        ("test_guards.py::test_a_token_lost_in_a_restart_takes_no_place",),
    ),
    Mutant(
        "list: an index outlives its records",
        RESERVE,
        "{ record_key, live, KEYS[5] }",
        "{ record_key, live }",
        ("test_guards.py::test_a_list_names_a_reserved_token_as_long_as_its_receipt_lasts",),
    ),
    Mutant(
        "idempotency: the caller is in the key",
        FORMAT,
        "digest(caller, verb, key)",
        "digest(verb, key)",
        (ANOTHER,),
    ),
    Mutant(
        "idempotency: the verb is in the key",
        FORMAT,
        "digest(caller, verb, key)",
        "digest(caller, key)",
        ("test_guards.py::test_one_key_may_serve_several_verbs",),
    ),
    Mutant(
        "idempotency: one request",
        JUDGE,
        "if string.sub(known, 1, #request) ~= request then return 'idempotency_mismatch' end",
        "",
        (ONE_REQUEST,),
    ),
    Mutant(
        "idempotency: the window",
        JUDGE,
        "request .. kept, 'PX', window)",
        "request .. kept)",
        ("test_idempotency.py::test_a_key_is_forgotten_after_its_window",),
    ),
    Mutant(
        "idempotency: a secret that cannot be derived again",
        STORE,
        "if [verifier(text) for text in made.values()] == verifiers:",
        "if True:",
        ("test_idempotency.py::test_a_keyed_token_is_returned_again_though_redis_never_held_it",),
    ),
    Mutant(
        "idempotency: a repeated create says the present state",
        AGAIN,
        "states[i - 3] = shown_state(record, KEYS[3], string.sub(KEYS[i], -18))",
        "states[i - 3] = 'active'",
        (SAYS_NOW, RESTORED),
    ),
    Mutant(
        "idempotency: a repeated create says the present time",
        AGAIN,
        "created, expires, now, audience",
        "created, expires, created, audience",
        (SAYS_NOW,),
    ),
    Mutant(
        "idempotency: a repeated create says the audience of the token",
        AGAIN,
        "record.audience or ''",
        "''",
        (ASKED,),
    ),
    Mutant(
        "idempotency: a create's audience as it was asked for",
        STORE,
        "terms.asked or terms.audience",
        "terms.audience",
        (ASKED,),
    ),
    Mutant(
        "history: a record that is restored alone is shown as lost",
        RECEIPT,
        "if alive and record.seq and not redis.call('ZSCORE', live, id) then return 'lost' end",
        "",
        (RESTORED,),
    ),
    Mutant(
        "idempotency: one request, for a create",
        CREATE,
        "if string.sub(known, 1, #request) ~= request then",
        "if false then",
        ("test_idempotency.py::test_a_create_key_stands_for_one_request",),
    ),
    Mutant(
        "idempotency: the record remembers longer than the key",
        JUDGE,
        "if known and string.sub(known, 1, 64) == mark(name, request) then",
        "if false then",
        ("test_put_back.py::test_a_consume_is_replayed_though_its_key_was_evicted",),
    ),
    Mutant(
        "idempotency: a consume is replayed to its caller alone",
        VALIDATE,
        " and record.consumer == caller",
        "",
        ("test_put_back.py::test_a_repeat_gets_no_consume_of_another_caller",),
    ),
    Mutant(
        "lease: a held token stays among the live ones",
        RESERVE,
        "redis.call('ZADD', live, 'XX', last, id)",
        "",
        ("test_lease.py::test_a_token_that_is_held_beyond_its_life_survives_a_sweep",),
    ),
    Mutant(
        "lease: the live tokens outlive a lease",
        RESERVE,
        "{ record_key, live, KEYS[5] }",
        "{ record_key, KEYS[5] }",
        ("test_guards.py::test_a_list_names_a_reserved_token_as_long_as_its_receipt_lasts",),
    ),
    Mutant(
        "a decided record does not stay for the remaining life",
        JUDGE,
        "if record.expires - now > 10000 then redis.pcall('PEXPIRE', record_key, receipt) end",
        "",
        (
            "test_store.py::test_a_decided_record_stays_for_the_receipt_and_not_for_the_remaining_life",
        ),
    ),
    Mutant(
        "a full server is opened", JUDGE, "redis.call('HDEL', record_key, '')", "", (FULL, FULL_TOO)
    ),
    Mutant(
        "checked_id",
        FORMAT,
        "if not ID_PATTERN.fullmatch(token_id):",
        "if False:",
        ("test_guards.py::test_the_name_of_another_key_is_no_id",),
    ),
    Mutant(
        "nothing is sent twice",
        CONNECTION,
        "            return connection.read_response()\n",
        "            try:\n"
        "                return connection.read_response()\n"
        "            except redis.ConnectionError:\n"
        "                connection.send_command(*command)\n"
        "                return connection.read_response()\n",
        ("test_guards.py::test_a_lost_reply_is_unavailable_and_nothing_is_sent_twice",),
    ),
]
