"""`grpc.health.v1.Health`: what Kubernetes and proxies ask a port for gRPC."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from app.api import protobuf_schema
from app.api.oip_messages import SERVICE as INFERENCE
from app.errors import UnknownModelError
from app.model import State
from app.serving import Serving

_SERVING, _NOT_SERVING = 1, 2
_SHOWN: Final = 100
# The status is an enumeration, which looks like a number on the wire.
_CLASSES: Final = protobuf_schema.classes(
    "grpc.health.v1", {"CheckRequest": ("service string",), "CheckResponse": ("status int32",)}
)


@dataclass(frozen=True, slots=True)
class HealthService:
    """Says of the whole server, and of the service for inference, what `/readyz` says."""

    NAME: ClassVar = "grpc.health.v1.Health"
    serving: Serving

    @property
    def methods(self) -> Mapping[str, Callable[[Any, float], Awaitable[Any]]]:
        return {"Check": self.check}

    async def check(self, asked: Any, _allowed_s: float) -> Any:
        if asked.service not in ("", self.NAME, INFERENCE):
            raise UnknownModelError(f"There is no service {asked.service[:_SHOWN]!r} on this port.")
        is_ready = self.serving.state is State.READY
        return _CLASSES["CheckResponse"](status=_SERVING if is_ready else _NOT_SERVING)

    @staticmethod
    def message(name: str) -> Any:
        """The class of a message, such as `CheckRequest`."""
        return _CLASSES[name]
