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

from client import Client, Response, check
from loopback import serving

PURPOSE = "ws.connect"
ACCEPT_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def accept_for(key: str) -> str:
    digest = hashlib.sha1((key + ACCEPT_SUFFIX).encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


class Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    account: Client
    backend_id: str

    def do_GET(self) -> None:
        # The list of subprotocols is the only WebSocket header that a page can set.
        offered = self.headers.get("Sec-WebSocket-Protocol", "").replace(" ", "").split(",")
        ticket = next((name for name in offered if name.startswith("ott_")), "")
        # Anyone with an account can create a ticket for this gateway; only the backend's count.
        terms = {"purpose": PURPOSE, "issued_by": [self.backend_id]}
        response = self.account.post("/token/consume", {"token": ticket, **terms})
        if response.status != 200:
            self.send_error(503 if response.status >= 500 else 403, response.body["code"])
            return
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept_for(self.headers["Sec-WebSocket-Key"]))
        self.send_header("Sec-WebSocket-Protocol", "chat")  # Never the ticket.
        self.end_headers()
        welcome = {"user": response.body["subject"], "room": response.body["data"]["room"]}
        text = json.dumps(welcome).encode()
        self.wfile.write(bytes([0x81, len(text)]) + text)  # one text frame of up to 125 bytes
        self.close_connection = True


def open_websocket(address: tuple[str, int], ticket: str) -> Response:
    """Connect as ``new WebSocket("wss://…/rooms", ["chat", ticket])`` does in a page."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    lines = ["GET /rooms HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    lines += [f"Sec-WebSocket-Protocol: chat, {ticket}", "", ""]
    with socket.create_connection(address, timeout=30) as sock, sock.makefile("rb") as received:
        sock.sendall("\r\n".join(lines).encode())
        _, status, reason = received.readline().decode().split(maxsplit=2)
        headers = http.client.parse_headers(received)
        if status != "101":
            return Response(int(status), {"code": reason.strip()})
        check(headers["Sec-WebSocket-Accept"] == accept_for(key), "the gateway shook hands")
        _, length = received.read(2)
        return Response(101, json.loads(received.read(length)))


def main() -> None:
    backend, gateway, stranger = Client("backend"), Client("gateway"), Client("stranger")
    Gateway.account, Gateway.backend_id = gateway, backend.id
    terms = {"purpose": PURPOSE, "audience": [gateway.id], "data": {"room": 7}}
    with serving(Gateway) as address:
        made = backend.post("/token/create", {**terms, "subject": "ana"})
        check(made.status == 201, f"the page has a ticket for {made.body['expires_in']} s", made)
        ticket = made.body["token"]
        seen = stranger.post("/token/consume", {"token": ticket, "purpose": PURPOSE})
        check(seen.body.get("code") == "token_not_for_caller", "a stranger cannot use it", seen)
        first = open_websocket(address, ticket)
        check(first.body == {"user": "ana", "room": 7}, "ana is in room 7", first)
        again = open_websocket(address, ticket)
        refused = again == (403, {"code": "token_already_used"})
        check(refused, "the same ticket again: token_already_used", again)
        forged = stranger.post("/token/create", {**terms, "subject": "ana"})
        fake = open_websocket(address, forged.body["token"])
        refused = fake == (403, {"code": "token_mismatch"})
        check(refused, "a stranger's own ticket: not from the backend", fake)


if __name__ == "__main__":
    main()
