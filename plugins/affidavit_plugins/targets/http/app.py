"""The web application: routes, the API key, size limits, and errors as ``{"error": …}``."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import re
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from affidavit.errors import InvalidInput, Refused, UsageError
from affidavit.interfaces.deployment import Predictor
from affidavit_plugins.targets.http.explain import Limits, build_explanation, parse_explain
from affidavit_plugins.targets.http.protocol import ProtocolError, build_response, model_metadata, parse_request

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

BODY_SECONDS = 60
"""A client that takes longer to send its request is dropped, so that slow senders cannot hold connections for ever."""
PROBES = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Answered without a key: an orchestrator's probes carry none, and they tell nothing about the model."""


def create_app(predictor: Predictor, *, api_key: str | None, max_bytes: int, max_rows: int, explain_limits: Limits) -> Any:
    """An ASGI application that answers for `predictor`.

    Parameters
    ----------
    api_key
        Required of every request but the health probes, as ``Authorization: Bearer …`` or ``X-Api-Key``; None lets in whoever names this
        machine's loopback in the ``Host`` header.
    max_bytes, max_rows, explain_limits
        Larger requests get 413.
    """
    app = FastAPI(title="Affidavit", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_exception_handler(ProtocolError, _protocol_error)
    app.add_exception_handler(HTTPException, _http_error)
    _add_server_routes(app)
    _add_model_routes(app, predictor, max_bytes, max_rows, explain_limits)
    return _HostGuard(app) if api_key is None else _KeyGuard(app, api_key)


def _add_server_routes(app: FastAPI) -> None:
    @app.get("/v2")
    async def server() -> JSONResponse:
        return JSONResponse({"name": "affidavit", "version": metadata.version("affidavit"), "extensions": []})

    @app.get("/v2/health/live")
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready")
    async def ready() -> JSONResponse:
        # The specification prints "live" here too; KServe's own server says "ready".
        return JSONResponse({"live": True, "ready": True})


def _add_model_routes(app: FastAPI, predictor: Predictor, max_bytes: int, max_rows: int, limits: Limits) -> None:
    def check(request: Request) -> None:
        if request.path_params["name"] != predictor.name:
            raise ProtocolError(f"There is no such model here. This server answers for '{predictor.name}'.", 404)
        if request.path_params.get("version", str(predictor.version)) != str(predictor.version):
            raise ProtocolError(f"There is no such version of '{predictor.name}' here. This server answers with version {predictor.version}.", 404)

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    async def describe(request: Request) -> JSONResponse:
        check(request)
        return JSONResponse(model_metadata(predictor))

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(request: Request) -> JSONResponse:
        check(request)
        return JSONResponse({"name": predictor.name, "ready": True})

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: Request) -> JSONResponse:
        check(request)
        _check_headers(request)
        body = await _read_body(request, max_bytes)
        return await run_in_threadpool(_answer, predictor, lambda: _inferred(predictor, body, max_rows))

    @app.post("/v2/models/{name}/explain")
    @app.post("/v2/models/{name}/versions/{version}/explain")
    async def explain(request: Request) -> JSONResponse:
        check(request)
        _check_headers(request)
        body = await _read_body(request, max_bytes)
        return await run_in_threadpool(_answer, predictor, lambda: _explained(predictor, body, limits))


def _inferred(predictor: Predictor, body: bytes, max_rows: int) -> dict[str, Any]:
    request = parse_request(body, predictor, max_rows=max_rows)
    return build_response(request, predictor.predict(request.data), predictor)


def _explained(predictor: Predictor, body: bytes, limits: Limits) -> dict[str, Any]:
    request, options = parse_explain(body, predictor, limits)
    return build_explanation(request, predictor.explain(request.data, **options), predictor)


def _answer(predictor: Predictor, respond: Callable[[], dict[str, Any]]) -> JSONResponse:
    """Parse, ask and render, in a worker thread: none of them is quick enough for the event loop."""
    try:
        return JSONResponse(respond())
    except ProtocolError:
        raise
    except Refused as error:
        raise ProtocolError(str(error), 403) from None
    except (InvalidInput, UsageError) as error:
        raise ProtocolError(str(error)) from None
    except Exception as error:
        # Its message may quote the rows: neither the log nor the client gets it.
        logger.error("Model '%s' failed on a request: %s", predictor.name, type(error).__name__)
        raise ProtocolError("The model could not answer.", 500) from None


def _check_headers(request: Request) -> None:
    if "inference-header-content-length" in request.headers:
        raise ProtocolError("The binary tensor extension is not supported. Send JSON data.")
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    # A web page can make a browser send forms and plain text to a server on loopback, but not JSON.
    if kind != "application/json" and not kind.endswith("+json"):
        raise ProtocolError("The request must have the content type application/json.")


async def _read_body(request: Request, limit: int) -> bytes:
    """The body, refused if it is longer than `limit`, whether or not its length was declared.

    Of a body that is too long as much again is read and dropped before the connection closes: most clients read no answer before
    they have sent everything.
    """
    declared = request.headers.get("content-length", "0")
    too_long = len(declared) > 18 or (declared.isdecimal() and int(declared) > limit)
    body = bytearray()
    seen = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                seen += len(chunk)
                too_long = too_long or seen > limit
                if seen > 2 * limit:
                    break
                if not too_long:
                    body += chunk
    except TimeoutError:
        raise ProtocolError(f"The request took longer than {BODY_SECONDS} seconds to arrive.", 408) from None
    except ClientDisconnect:
        raise ProtocolError("The client went away.") from None
    if too_long:
        raise ProtocolError(f"The request is longer than {limit} bytes. Send it in parts.", 413)
    return bytes(body)


async def _protocol_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProtocolError)
    # What is left of a request that was not read to its end must not be taken for the next one.
    headers = {"Connection": "close"} if error.status in (408, 413) else None
    return JSONResponse({"error": str(error)}, error.status, headers=headers)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = {404: "There is nothing at this address.", 405: "This address does not take that method."}.get(error.status_code, "The request failed.")
    return JSONResponse({"error": message}, error.status_code, headers=dict(error.headers or {}))


class _HostGuard:
    """Lets a request in if it is addressed to loopback by name or number.

    A web page whose name is pointed at 127.0.0.1 after it was loaded (DNS rebinding) is of one origin with this server and may send and read
    anything; its browser still names the page's host.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not all(_is_loopback(value) for name, value in scope["headers"] if name == b"host"):
            response = JSONResponse({"error": "Without an API key this server answers only to localhost."}, 421)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_loopback(host: bytes) -> bool:
    name = re.sub(r":[0-9]*\Z", "", host.decode("latin-1")).lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


class _KeyGuard:
    """Lets a request in if it carries the key. Outside the application, so that even unknown addresses need it."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._digest = hashlib.sha256(api_key.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in PROBES and not self._knows(scope["headers"]):
            response = JSONResponse({"error": "This server needs an API key."}, 401, headers={"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, headers: list[tuple[bytes, bytes]]) -> bool:
        for name, value in headers:
            given = value if name == b"x-api-key" else value[7:] if name == b"authorization" and value[:7].lower() == b"bearer " else None
            # Digests have one length and tell nothing of the key, so that the comparison takes the same time for every guess.
            if given is not None and hmac.compare_digest(hashlib.sha256(given.strip()).digest(), self._digest):
                return True
        return False
