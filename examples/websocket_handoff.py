"""A page with a session at its backend opens a WebSocket at a gateway without sessions.

The backend gives the page a ticket for the gateway; the gateway consumes it in the handshake.
"""

import base64
import hashlib
import http.client
import json
import secrets
import socket
from http.server import BaseHTTPRequestHandler

from account import check, enrol, refusal, run
from loopback import serving

from token_service_client import NotForCaller, Refused, Tokens, TokensError, websocket_ticket

PURPOSE = "ws.connect"
ACCEPT_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def accept_for(key: str) -> str:
    digest = hashlib.sha1((key + ACCEPT_SUFFIX).encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


class Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tokens: Tokens
    backend_id: str

    def do_GET(self) -> None:
        # The list of subprotocols is the only WebSocket header that a page can set.
        if not (ticket := websocket_ticket(self.headers)):
            self.send_error(401, "ticket_missing")
            return
        try:
            # Anyone with an account can create a ticket for this gateway; only the backend's count.
            use = self.tokens.consume(ticket, purpose=PURPOSE, issued_by=self.backend_id)
        except TokensError as error:
            self.send_error(403 if isinstance(error, Refused) else 503, error.code)
            return
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept_for(self.headers["Sec-WebSocket-Key"]))
        self.send_header("Sec-WebSocket-Protocol", "ott")  # Never the ticket.
        self.end_headers()
        welcome = {"user": use.subject, "room": use.data["room"]}
        text = json.dumps(welcome).encode()
        self.wfile.write(bytes([0x81, len(text)]) + text)  # one text frame of up to 125 bytes
        self.close_connection = True


def open_websocket(address: tuple[str, int], ticket: str) -> tuple[int, object]:
    """Connect as ``new WebSocket("wss://…/rooms", ["ott", ticket])`` does in a page.

    Return the status, and the first message or the reason of the refusal.
    """
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    lines = ["GET /rooms HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    lines += [f"Sec-WebSocket-Protocol: ott, {ticket}", "", ""]
    with socket.create_connection(address, timeout=30) as sock, sock.makefile("rb") as received:
        sock.sendall("\r\n".join(lines).encode())
        _, status, reason = received.readline().decode().split(maxsplit=2)
        headers = http.client.parse_headers(received)
        if status != "101":
            return int(status), reason.strip()
        check(headers["Sec-WebSocket-Accept"] == accept_for(key), "the gateway shook hands")
        _, length = received.read(2)
        return 101, json.loads(received.read(length))


def main() -> None:
    backend, gateway, stranger = enrol("backend"), enrol("gateway"), enrol("stranger")
    Gateway.tokens, Gateway.backend_id = gateway.tokens, backend.id
    terms = {"audience": gateway.id, "subject": "ana", "data": {"room": 7}}
    expected = {"purpose": PURPOSE, "issued_by": backend.id}
    with serving(Gateway) as address:
        made = backend.tokens.create(purpose=PURPOSE, **terms)
        print(f"ok  the page has a ticket for {made.expires_in} s")
        seen = refusal(lambda: stranger.tokens.consume(made.token, **expected))
        check(isinstance(seen, NotForCaller), "a stranger cannot use it", seen)
        first = open_websocket(address, made.token)
        check(first == (101, {"user": "ana", "room": 7}), "ana is in room 7", first)
        again = open_websocket(address, made.token)
        refused = again == (403, "token_already_used")
        check(refused, "the same ticket again: token_already_used", again)
        forged = stranger.tokens.create(purpose=PURPOSE, **terms)
        fake = open_websocket(address, forged.token)
        refused = fake == (403, "token_mismatch")
        check(refused, "a stranger's own ticket: not from the backend", fake)


if __name__ == "__main__":
    run(main)
