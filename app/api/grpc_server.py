"""The port for gRPC. Only what is asked for it imports this, since the package grpcio need not be there."""

import logging
from collections.abc import Iterator
from typing import Any, Final

import grpc.aio

from app.api.grpc_call import Calls, Method
from app.api.grpc_health import HealthService
from app.api.oip_grpc import INFER, InferenceService
from app.errors import SettingsError
from app.settings import PREFIX, Settings

_LOG: Final = logging.getLogger("app")
_REFUSED_AT_ONCE: Final = 100
# What a call may send before its message is asked for, and a connection beyond that before it hears from us:
# one whose answers to a ping take 10 ms can send 25 MiB/s of small messages.
_UNASKED_BYTES: Final = 256 * 1024
_PROBES: Final = frozenset({"ServerLive", "ServerReady", "ModelReady", "Check"})


async def start(service: InferenceService, calls: Calls) -> Any:
    """A `grpc.aio.Server` in this event loop that takes calls.

    Raises:
        SettingsError: its port cannot be listened on.
    """
    settings = service.settings
    server = grpc.aio.server(options=_options(settings))
    server.add_generic_rpc_handlers(_handlers(service, calls))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise SettingsError(
            f"Cannot listen for gRPC on {host} port {settings.grpc_port}. Choose another with --grpc-port "
            f"({PREFIX}GRPC_PORT), or stop what uses it."
        ) from error
    await server.start()
    _LOG.info("Listening for gRPC on %s:%d.", host, settings.grpc_port)
    return server


def _handlers(service: InferenceService, calls: Calls) -> Iterator[Any]:
    """One for each service on the port."""

    def admits(allowed_s: float) -> None:
        calls.gate.check_any(service.serving.answering, service.decoder, allowed_s)

    for offered in (service, HealthService(service.serving)):
        methods = {
            name: Method(
                path=f"/{offered.NAME}/{name}",
                request=offered.message(f"{name}Request"),
                answer=answer,
                admits=admits if name == INFER else None,
                quiet=name in _PROBES,
            )
            for name, answer in offered.methods.items()
        }
        handlers = {name: calls.handler(method) for name, method in methods.items()}
        yield grpc.method_handlers_generic_handler(offered.NAME, handlers)


def _options(settings: Settings) -> list[tuple[str, int]]:
    header_timeout_ms = round(1000 * settings.header_timeout_s)
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),  # unpacked, if it was compressed
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        ("grpc.server_handshake_timeout_ms", header_timeout_ms),
        # It would let callers send ever more of messages that nobody has asked for, up to many MiB each.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _UNASKED_BYTES),
        # Of one client: more of them would wait in its library, and it would not hear that they are refused.
        ("grpc.max_concurrent_streams", settings.max_requests_in_flight + _REFUSED_AT_ONCE),
    ]
