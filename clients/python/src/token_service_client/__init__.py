"""Client of Token Service: single-use tokens that are honoured at most once."""

from token_service_client.binding import bind_of
from token_service_client.client import AsyncTokens, Tokens
from token_service_client.errors import (
    AlreadyUsed,
    CallRefused,
    Expired,
    LeaseEnded,
    Lost,
    Malformed,
    Mismatch,
    NotForCaller,
    RateLimited,
    Refused,
    Reserved,
    Revoked,
    TokensError,
    Unavailable,
    Unknown,
)
from token_service_client.fake import AsyncFakeTokens, FakeTokens
from token_service_client.fake_service import Clock, FakeService
from token_service_client.tickets import email_link, websocket_ticket
from token_service_client.values import Created, Held, Receipt, Seen, Use

__all__ = [
    "AlreadyUsed",
    "AsyncFakeTokens",
    "AsyncTokens",
    "CallRefused",
    "Clock",
    "Created",
    "Expired",
    "FakeService",
    "FakeTokens",
    "Held",
    "LeaseEnded",
    "Lost",
    "Malformed",
    "Mismatch",
    "NotForCaller",
    "RateLimited",
    "Receipt",
    "Refused",
    "Reserved",
    "Revoked",
    "Seen",
    "Tokens",
    "TokensError",
    "Unavailable",
    "Unknown",
    "Use",
    "bind_of",
    "email_link",
    "websocket_ticket",
]
