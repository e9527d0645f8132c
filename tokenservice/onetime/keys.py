"""Key names of one owner, which share a {tag} and so a cluster slot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from tokenservice.onetime.format import HANDLE, ID, TAG, owner_handle, random_base62, shard_tag

KEY_PREFIX = "ott:"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the owner with this ``handle``, on the shard with this ``tag``."""

    tag: str
    handle: str

    @classmethod
    def of_owner(cls, owner: str, shards: int) -> Self:
        return cls(shard_tag(owner, shards), owner_handle(owner))

    @classmethod
    def of_token(cls, token_id: str) -> Self:
        """Read both from the id: the presenter of a token does not know its owner."""
        return cls(token_id[:TAG], token_id[TAG : TAG + HANDLE])

    def new_id(self) -> str:
        """The id of a new token of this owner."""
        return self.tag + self.handle + random_base62(ID - TAG - HANDLE)

    @property
    def history(self) -> str:
        """The change count of the shard."""
        return self._name("history")

    @property
    def live(self) -> str:
        """The ids of the owner's outstanding tokens, by expiry."""
        return self._name(f"live:{self.handle}")

    @property
    def index(self) -> str:
        """The ids of the owner's records, by creation."""
        return self._name(f"index:{self.handle}")

    @property
    def cut(self) -> str:
        """The change counts below which the owner's unused tokens are revoked."""
        return self._name(f"cut:{self.handle}")

    @property
    def owners(self) -> str:
        """The handles of the owners of the shard that may have outstanding tokens."""
        return self._name("owners")

    @property
    def held(self) -> str:
        """The ids of the tokens of the shard that are reserved, by the end of their lease."""
        return self._name("held")

    def more(self, verb: str) -> list[str]:
        """The sets beside the live one that a verb on a record changes."""
        if verb == "reserve":
            return [self.index, self.held]
        return [self.held] if verb in ("commit", "release") else []

    def idem(self, name: str) -> list[str]:
        """The memory of an idempotency key by its name; none where the caller sent none."""
        return [self._name(f"idem:{name}")] if name else []

    def record(self, token_id: str) -> str:
        return self._name(token_id)

    def records(self, token_ids: Iterable[str]) -> list[str]:
        return [self.record(token_id) for token_id in token_ids]

    def probe(self, kind: str) -> str:
        return self._name(f"probe:{kind}")

    def _name(self, name: str) -> str:
        return f"{KEY_PREFIX}{{{self.tag}}}:{name}"
