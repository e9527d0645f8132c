"""Handmade access tokens, and the forgeries among them."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any

from tokenservice.auth.jwts import LEEWAY_SECONDS

DAY = 86_400


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class Forge:
    """A maker of access tokens that has the key of the service."""

    def __init__(self, token: str, key: str) -> None:
        self.genuine = token
        self.key = key
        self.header: dict[str, Any] = json.loads(decoded(token.split(".", 1)[0]))
        self.claims: dict[str, Any] = json.loads(decoded(token.split(".")[1]))

    def signed(self, header: bytes, payload: bytes, digest: str = "sha256") -> str:
        message = f"{encoded(header)}.{encoded(payload)}"
        signature = hmac.digest(self.key.encode(), message.encode(), digest)
        return f"{message}.{encoded(signature)}"

    def under(self, digest: str = "sha256", **header: Any) -> str:
        """The genuine claims, signed with the right key, under a changed header."""
        changed = {**self.header, **header}
        return self.signed(json.dumps(changed).encode(), json.dumps(self.claims).encode(), digest)

    def claiming(self, **claims: Any) -> str:
        """Changed claims, signed with the right key."""
        changed = {**self.claims, **claims}
        return self.signed(json.dumps(self.header).encode(), json.dumps(changed).encode())

    def without(self, claim: str) -> str:
        left = {name: value for name, value in self.claims.items() if name != claim}
        return self.signed(json.dumps(self.header).encode(), json.dumps(left).encode())

    def unsigned(self, algorithm: str, signature: str = "") -> str:
        header = encoded(json.dumps({**self.header, "alg": algorithm}).encode())
        return f"{header}.{self.genuine.split('.')[1]}.{signature}"

    def with_key(self, key: str) -> str:
        other = Forge(self.genuine, key)
        return other.claiming()


# A token for the header "Authorization: Bearer …". Each is refused by the one decode in
# jwts.claims_of, with its list of one algorithm and its required claims.
ATTACKS: dict[str, Callable[[Forge], str]] = {
    # Algorithms (ASVS 5.0 V9.1.2, RFC 8725 sections 3.1 and 3.2).
    **{
        f"alg {name!r} with {how}": lambda f, n=name, s=signature: f.unsigned(n, s)
        for name in ("none", "None", "nOnE", "NONE", "")
        for how, signature in {"no signature": "", "some signature": "AAAA"}.items()
    },
    "alg none with the genuine signature": lambda f: f.unsigned("none", f.genuine.split(".")[2]),
    "HS384 with the right key": lambda f: f.under("sha384", alg="HS384"),
    "HS512 with the right key": lambda f: f.under("sha512", alg="HS512"),
    "HS512 named, HS256 done": lambda f: f.under(alg="HS512"),
    "HS256 named, HS512 done": lambda f: f.under("sha512"),
    "RS256 named, HS256 done": lambda f: f.under(alg="RS256"),
    "ES256 named, HS256 done": lambda f: f.under(alg="ES256"),
    "EdDSA named, HS256 done": lambda f: f.under(alg="EdDSA"),
    "hs256 in lower case": lambda f: f.under(alg="hs256"),
    "alg is a list": lambda f: f.under(alg=["HS256"]),
    "alg is null": lambda f: f.under(alg=None),
    "alg is a number": lambda f: f.under(alg=256),
    "no alg": lambda f: f.signed(b'{"typ":"JWT"}', json.dumps(f.claims).encode()),
    "alg twice, none last": lambda f: f.signed(
        b'{"alg":"HS256","alg":"none"}', json.dumps(f.claims).encode()
    ),
    # Signatures.
    "empty signature": lambda f: f.genuine.rsplit(".", 1)[0] + ".",
    "no signature part": lambda f: f.genuine.rsplit(".", 1)[0],
    "half a signature": lambda f: f.genuine[:-22],
    "signature of zeros": lambda f: f.genuine.rsplit(".", 1)[0] + "." + "A" * 43,
    "signature of another token": lambda f: (
        f.claiming(jti="x").rsplit(".", 1)[0] + "." + f.genuine.rsplit(".", 1)[1]
    ),
    "doubled signature": lambda f: f.genuine + f.genuine.rsplit(".", 1)[1],
    "wrong key": lambda f: f.with_key(secrets.token_urlsafe(48)),
    "empty key": lambda f: f.with_key(""),
    "the key, cut": lambda f: f.with_key(f.key[:-1]),
    "the key, stretched": lambda f: f.with_key(f.key + "\0"),
    # Keys that the token itself brings, and not the key of the service (V9.1.3).
    **{
        f"{name} and a key of its own": lambda f, h={name: value}: Forge(
            f.genuine, "attacker's own key, long enough to pass"
        ).under(**h)
        for name, value in {
            "kid": "../../../../dev/null",
            "kid with SQL": "' UNION SELECT 'key' --",
            "jku": "https://evil.example/jwks.json",
            "x5u": "https://evil.example/cert.pem",
            "jwk": {"kty": "oct", "k": encoded(b"attacker's own key, long enough to pass")},
            "x5c": ["MIIB"],
        }.items()
    },
    "unknown critical extension": lambda f: f.under(crit=["b64"], b64=False),
    # Claims (V9.2.1 to V9.2.4).
    **{
        f"without {claim}": lambda f, c=claim: f.without(c)
        for claim in ("iss", "aud", "exp", "iat", "jti", "sub", "type")
    },
    **{
        f"{claim} null": lambda f, c=claim: f.claiming(**{c: None})
        for claim in ("iss", "aud", "exp", "iat", "jti", "sub", "type")
    },
    "wrong iss": lambda f: f.claiming(iss="another-service"),
    "iss with a tail": lambda f: f.claiming(iss="token-service.evil.example"),
    "iss a list": lambda f: f.claiming(iss=["token-service"]),
    "wrong aud": lambda f: f.claiming(aud="another-service"),
    "aud a list without this service": lambda f: f.claiming(aud=["another-service"]),
    "aud an empty list": lambda f: f.claiming(aud=[]),
    "aud an object": lambda f: f.claiming(aud={"token-service": True}),
    "expired": lambda f: f.claiming(exp=int(time.time()) - LEEWAY_SECONDS - 1),
    "expired long ago": lambda f: f.claiming(exp=1),
    "exp before 1970": lambda f: f.claiming(exp=-DAY),
    "exp a text": lambda f: f.claiming(exp="tomorrow"),
    "exp a number in a text": lambda f: f.claiming(exp=str(int(time.time()) + DAY)),
    "exp a list": lambda f: f.claiming(exp=[int(time.time()) + DAY]),
    "exp an object": lambda f: f.claiming(exp={}),
    "exp infinite": lambda f: f.claiming(exp=float("inf")),
    "exp not a number": lambda f: f.claiming(exp=float("nan")),
    "nbf in the future": lambda f: f.claiming(nbf=int(time.time()) + 60),
    "nbf a text": lambda f: f.claiming(nbf="now"),
    "iat in the future": lambda f: f.claiming(iat=int(time.time()) + 60),
    "iat a list": lambda f: f.claiming(iat=[1]),
    "iat infinite": lambda f: f.claiming(iat=float("inf")),
    "type refresh": lambda f: f.claiming(type="refresh"),
    "type ACCESS": lambda f: f.claiming(type="ACCESS"),
    "type a list": lambda f: f.claiming(type=["access"]),
    "sub a number": lambda f: f.claiming(sub=1),
    "sub true": lambda f: f.claiming(sub=True),
    "sub a list": lambda f: f.claiming(sub=[f.claims["sub"]]),
    "sub an object": lambda f: f.claiming(sub={"id": f.claims["sub"]}),
    "sub empty": lambda f: f.claiming(sub=""),
    "sub not a UUID": lambda f: f.claiming(sub="admin"),
    "sub with SQL": lambda f: f.claiming(sub="' OR 1=1 --"),
    "sub with NUL": lambda f: f.claiming(sub="\0"),
    "sub a lone surrogate": lambda f: f.claiming(sub="\ud800"),
    "sub of no account": lambda f: f.claiming(sub=str(uuid.uuid4())),
    "jti a number": lambda f: f.claiming(jti=7),
    "jti a list": lambda f: f.claiming(jti=["a"]),
    # Shapes.
    "payload a list": lambda f: f.signed(json.dumps(f.header).encode(), b"[]"),
    "payload a text": lambda f: f.signed(json.dumps(f.header).encode(), b'"x"'),
    "payload null": lambda f: f.signed(json.dumps(f.header).encode(), b"null"),
    "payload not JSON": lambda f: f.signed(json.dumps(f.header).encode(), b"{"),
    "payload not UTF-8": lambda f: f.signed(json.dumps(f.header).encode(), b'{"sub":"\xff"}'),
    "payload nested deep": lambda f: f.signed(
        json.dumps(f.header).encode(), b'{"sub":' + b"[" * 100_000
    ),
    "payload with a number of 5000 digits": lambda f: f.signed(
        json.dumps(f.header).encode(), b'{"exp":' + b"9" * 5000 + b"}"
    ),
    "header a list": lambda f: f.signed(b"[]", json.dumps(f.claims).encode()),
    "header not JSON": lambda f: f.signed(b"{", json.dumps(f.claims).encode()),
    "header nested deep": lambda f: f.signed(b"[" * 100_000, b"{}"),
    "cut at the front": lambda f: f.genuine[1:],
    "cut in half": lambda f: f.genuine[: len(f.genuine) // 2],
    "one part": lambda f: f.genuine.replace(".", ""),
    "four parts": lambda f: f.genuine + ".AAAA",
    "five parts, as if encrypted": lambda f: f.genuine + ".AAAA.AAAA",
    "only dots": lambda f: "..",
    "a huge token": lambda f: "A" * 1_000_000,
    "a huge claim": lambda f: Forge(f.genuine, "x" * 40).claiming(junk="j" * 500_000),
    "a one-time token": lambda f: "ott_" + "0" * 56,
}
