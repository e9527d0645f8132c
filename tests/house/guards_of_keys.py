"""The guards of the engine that are about keys; the others are in guards.py."""

from __future__ import annotations

from tests.house.guards import CREATE, JUDGE, Mutant

VALUES = "values.py"
NAMED = "test_used_with.py::test_a_validate_and_a_commit_name_the_keys"
MUTANTS = [
    Mutant(
        "key: a reservation is its key's",
        VALUES,
        'return f"{self.id}\\0{self.key_id}" if self.key_id else self.id',
        "return self.id",
        ("test_used_with.py::test_a_reservation_is_for_its_key_alone",),
    ),
    Mutant(
        "key: named by a create",
        CREATE,
        "'require_subject',\n  'issued_with' }",
        "'require_subject' }",
        (NAMED,),
    ),
    Mutant(
        "key: named by a consume",
        JUDGE,
        "redis.call('HSET', record_key, 'consumed_with', key)",
        "",
        (NAMED,),
    ),
]
