"""A small double of HashiCorp Vault's transit engine: the parts of its documented HTTP API that a key provider uses, over real HTTP.

It follows https://developer.hashicorp.com/vault/api-docs/secret/transit (encrypt, decrypt, rewrap, rotate) and its error answers. It is no
Vault: what it shows is that requests and answers have the documented form.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.double"


class Double(ThreadingHTTPServer):
    """The server; `keys` maps a key's name to its versions, `requests` is what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys: dict[str, list[bytes]] = {"affidavit": [os.urandom(32)]}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.sealed = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Double

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        self.server.requests.append((self.path, body))
        if self.server.sealed:
            return self._answer(503, {"errors": ["Vault is sealed"]})
        if self.headers.get("X-Vault-Token") != TOKEN:
            return self._answer(403, {"errors": ["permission denied"]})
        parts = self.path.strip("/").split("/")
        if len(parts) != 4 or parts[:2] != ["v1", "transit"]:
            return self._answer(404, {"errors": ["no handler for route"]})
        operation, versions = parts[2], self.server.keys.get(parts[3])
        if versions is None:
            return self._answer(400, {"errors": ["encryption key not found"]})
        try:
            return self._answer(200, {"data": getattr(self, f"_{operation}")(versions, body)})
        except (InvalidTag, ValueError, KeyError, IndexError):
            return self._answer(400, {"errors": ["cipher: message authentication failed"]})

    do_PUT = do_POST

    def _encrypt(self, versions: list[bytes], body: dict[str, Any]) -> dict[str, Any]:
        plaintext, nonce = base64.b64decode(body["plaintext"], validate=True), os.urandom(12)
        sealed = nonce + AESGCM(versions[-1]).encrypt(nonce, plaintext, self._associated(body))
        return {"ciphertext": f"vault:v{len(versions)}:{base64.b64encode(sealed).decode()}", "key_version": len(versions)}

    def _decrypt(self, versions: list[bytes], body: dict[str, Any]) -> dict[str, Any]:
        mark, version, text = body["ciphertext"].split(":")
        if mark != "vault":
            raise ValueError
        sealed = base64.b64decode(text, validate=True)
        plaintext = AESGCM(versions[int(version[1:]) - 1]).decrypt(sealed[:12], sealed[12:], self._associated(body))
        return {"plaintext": base64.b64encode(plaintext).decode()}

    def _rewrap(self, versions: list[bytes], body: dict[str, Any]) -> dict[str, Any]:
        return self._encrypt(versions, {**body, **self._decrypt(versions, body)})

    def _associated(self, body: dict[str, Any]) -> bytes | None:
        return base64.b64decode(body["associated_data"], validate=True) if body.get("associated_data") else None

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def running() -> Iterator[Double]:
    """The double, serving on a free port of this machine."""
    with Double() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)  # seconds after which it notices its end
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
