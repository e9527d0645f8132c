"""The guards of cuts, as in tests/house/guards.py."""

from __future__ import annotations

from tests.house.guards import COMMIT, CREATE, PRELUDE, RELEASE, RESERVE, Mutant

REVOKE_ALL = "scripts/revoke_all.lua"
LOST_OR_REVOKED = "if state == 'lost' or state == 'revoked' then"
CUT = "seq < cut_of(record.owner, record.purpose or '', record.subject)"
REVOKED = "test_cuts.py::test_every_verb_finds_an_unused_token_revoked"
NARROW = "test_cuts.py::test_a_narrow_cut_leaves_all_else"
DISABLED = "test_cuts.py::test_a_disabled_owner_creates_nothing_until_it_is_enabled"
OUTLIVES = "test_cuts.py::test_a_cut_outlives_every_record_that_it_revokes"
SWEPT = (
    "test_cuts.py::"
    "test_a_record_below_the_cut_stays_for_the_receipt_and_not_for_the_rest_of_its_life"
)
BOUNDED = "test_cuts.py::test_narrow_cuts_are_bounded_and_a_cut_of_all_replaces_them"
MUTANTS = [
    Mutant("cut: an older record is revoked", PRELUDE, CUT, "false", (REVOKED,)),
    Mutant(
        "cut: revoked is final",
        PRELUDE,
        CUT,
        f"now < tonumber(record.expires) and {CUT}",
        ("test_cuts.py::test_a_revoked_token_stays_so_beyond_its_life",),
    ),
    Mutant("cut: of a purpose", PRELUDE, "cut[2] or 0, ", "", (NARROW,)),
    Mutant("cut: of a subject", PRELUDE, ", cut[3] or 0)", ")", (NARROW,)),
    Mutant(
        "cut: it changes the count of the shard",
        REVOKE_ALL,
        "count = redis.call('HINCRBY', KEYS[1], 'count', 1)",
        "",
        ("test_cuts.py::test_tokens_of_the_same_moment_are_told_apart",),
    ),
    Mutant("cut: commit", COMMIT, LOST_OR_REVOKED, "if state == 'lost' then", (REVOKED,)),
    Mutant("cut: release", RELEASE, LOST_OR_REVOKED, "if state == 'lost' then", (REVOKED,)),
    Mutant(
        "cut: a repeated reserve",
        RESERVE,
        "if state == 'revoked' then return reply({ 'token_revoked' }) end",
        "",
        (REVOKED,),
    ),
    Mutant(
        "cut: its life",
        REVOKE_ALL,
        "math.max(life, off, kept)",
        "math.max(1, off, kept)",
        (OUTLIVES,),
    ),
    Mutant(
        "cut: no later cut shortens it",
        REVOKE_ALL,
        "math.max(life, off, kept)",
        "math.max(life, off)",
        (OUTLIVES,),
    ),
    Mutant(
        "cut: of all frees places",
        REVOKE_ALL,
        "redis.call('DEL', live)",
        "",
        ("test_cuts.py::test_a_cut_of_all_frees_the_places_under_the_cap",),
    ),
    Mutant("cut: narrow ones are bounded", REVOKE_ALL, "narrow >= ", "0 > ", (BOUNDED,)),
    Mutant(
        "cut: of all replaces narrow ones",
        REVOKE_ALL,
        "redis.call('DEL', cut)",
        "",
        (BOUNDED,),
    ),
    Mutant("cut: of all leaves an owner disabled", REVOKE_ALL, " or known[3]", "", (DISABLED,)),
    Mutant(
        "cut: a disabled owner creates nothing",
        CREATE,
        "if off and now < tonumber(off) then return reply({ 'owner_disabled' }) end",
        "",
        (DISABLED,),
    ),
    Mutant(
        "cut: its records do not stay for the remaining life",
        "scripts/sweep.lua",
        "redis.call('PEXPIRE', KEYS[i], kept)",
        "",
        (SWEPT,),
    ),
    Mutant(
        "cut: the sweep leaves all others",
        "scripts/sweep.lua",
        " and state_of(read(KEYS[i])) == 'revoked'",
        "",
        (SWEPT,),
    ),
    Mutant(
        "cut: nothing outstanding, nothing written",
        REVOKE_ALL,
        "if life == -2 and off == 0 then return reply({ 'revoked' }) end",
        "",
        ("test_cuts.py::test_without_outstanding_tokens_nothing_is_written",),
    ),
    Mutant(
        "cut: a full server is opened",
        REVOKE_ALL,
        "redis.call('HDEL', cut, '')",
        "",
        ("test_cuts.py::test_a_cut_works_on_a_full_server",),
    ),
    Mutant(
        "cut: a new token is above it",
        CREATE,
        "if cut > tonumber(count) then count, history[1] = cut, false end",
        "",
        ("test_cuts.py::test_a_new_token_is_never_below_an_old_cut",),
    ),
]
