"""The target `http`: a server in a background thread, and an endpoint that asks it over the wire."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import threading
import time
from typing import Annotated, Any

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from affidavit.errors import AffidavitError, UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.deployment import Deployment, Endpoint, Predictor
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Predictions
from affidavit_plugins.targets.http.app import create_app
from affidavit_plugins.targets.http.client import Client
from affidavit_plugins.targets.http.explain import Limits

KEY_VARIABLE = "AFFIDAVIT_API_KEY"
START_SECONDS = 30
STOP_SECONDS = 10


class HttpOptions(BaseModel):
    """Options of the target `http`.

    Attributes
    ----------
    host
        The address to listen on.
    port
        The port to listen on; 0 picks a free one.
    api_key
        What clients must show, by default the environment variable AFFIDAVIT_API_KEY. Without one the server listens on loopback only.
    max_bytes
        Largest request.
    max_rows
        Most rows in one request.
    max_explain_rows, max_explain_budget, max_explain_seconds
        Most rows in one request to explain, and the most model rows and seconds that a client may ask for each of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    max_bytes: Annotated[int, Field(gt=0)] = 8 * 1024 * 1024
    max_rows: Annotated[int, Field(gt=0)] = 10_000
    max_explain_rows: Annotated[int, Field(gt=0)] = 20
    max_explain_budget: Annotated[int, Field(gt=0)] = 2**17
    max_explain_seconds: Annotated[float, Field(gt=0)] = 10.0


class Http(Deployment):
    """Serves the Open Inference Protocol v2 over HTTP. It speaks no TLS: off loopback put a proxy that does in front of it."""

    type = "http"

    def deploy(self, predictor: Predictor, **options: Any) -> HttpEndpoint:
        """Start a server for `predictor`; it listens when this returns.

        Parameters
        ----------
        options
            See `HttpOptions`.

        Raises
        ------
        UsageError
            An option is unknown or wrong, the address cannot be had, or it is off loopback and there is no API key.
        """
        settings = _settings(options)
        secret = settings.api_key.get_secret_value() if settings.api_key else os.environ.get(KEY_VARIABLE) or None
        if secret is not None and not re.fullmatch("[!-~]+", secret):
            raise UsageError("The API key of the target 'http' must be ASCII letters, digits and signs: it travels in a header.")
        listener = _listen(settings.host, settings.port)
        address = listener.getsockname()
        if secret is None and not ipaddress.ip_address(address[0]).is_loopback:
            listener.close()
            raise UsageError(
                f"The target 'http' would listen on '{settings.host}', which others can reach, without an API key.",
                hint=f"Pass api_key=, set {KEY_VARIABLE}, or listen on 127.0.0.1.",
            )
        limits = Limits(settings.max_explain_rows, settings.max_explain_budget, settings.max_explain_seconds)
        app = create_app(predictor, api_key=secret, max_bytes=settings.max_bytes, max_rows=settings.max_rows, explain_limits=limits)
        return HttpEndpoint(_Server(app, listener), Client(_url(address), predictor, secret))


class HttpEndpoint(Endpoint):
    """A running server. `url` is where it listens."""

    def __init__(self, server: _Server, client: Client) -> None:
        self._server = server
        self._client = client
        self.url = client.url

    def predict(self, data: Dataset) -> Predictions:
        """Send the rows to the server and read its answer.

        Raises
        ------
        InvalidInput
            The server refused the rows.
        AffidavitError
            It refused the request, failed, or was stopped.
        """
        return self._client.predict(data)

    def explain(self, data: Dataset, *, method: str | None = None, **options: Any) -> Explanation:
        """Ask the server to explain the rows; `options` are label, seed, budget, seconds and width.

        Raises
        ------
        InvalidInput, AffidavitError
            As in `predict`.
        """
        return self._client.explain(data, method=method, **options)

    def healthy(self) -> bool:
        """Whether the server says that it is live and its model ready."""
        return self._client.healthy()

    def stop(self) -> None:
        """Finish the requests that are under way, then stop listening."""
        self._server.stop()
        self._client.close()


class _Server:
    """Uvicorn in a thread of its own."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        # No access log, and no logging configuration: addresses may hold personal data, and logging belongs to the application.
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, timeout_graceful_shutdown=5)
        self._uvicorn = uvicorn.Server(config)
        self._listener = listener
        self._thread = threading.Thread(target=self._uvicorn.run, kwargs={"sockets": [listener]}, name="affidavit-http", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._uvicorn.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop()
                raise AffidavitError("The HTTP server did not start.", hint="The log of 'uvicorn.error' says why.")
            time.sleep(0.005)

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        self._thread.join(STOP_SECONDS)
        self._listener.close()


def _settings(options: dict[str, Any]) -> HttpOptions:
    try:
        return HttpOptions(**options)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name, known = str(first["loc"][0]), HttpOptions.model_fields
        suggestion = nearest(name, known) if name not in known else ""
        raise UsageError(f"The target 'http', option '{name}': {first['msg']}.{suggestion}", hint=f"Options: {', '.join(known)}.") from None


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket: an address that is taken or forbidden shows here, in the caller's thread."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no host name"
        message = f"The target 'http' cannot listen on {host}:{port}: {reason}."
        raise UsageError(message, hint="Choose another port, or port=0 for a free one.") from None
    return listener


def _url(address: Any) -> str:
    """Where this machine reaches a listening socket: one bound to every address answers on loopback."""
    ip = ipaddress.ip_address(address[0])
    host = ("::1" if ip.version == 6 else "127.0.0.1") if ip.is_unspecified else str(ip)
    return f"http://[{host}]:{address[1]}" if ip.version == 6 else f"http://{host}:{address[1]}"
