"""How a process that serves starts: the model is loaded while the framework is imported.

Each takes most of a second, and neither needs the other before the end. What an engine computes while it is
loaded needs no lock of Python's, so on two cores both go on at the same time.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import uvloop

from app import engines
from app.serving import Serving
from app.settings import Settings

if TYPE_CHECKING:
    from app.server import DrainServer

# After this, whoever has Python's lock lets another thread go on. An engine that is done with a batch needs
# it to get the next one; with Python's own 5 ms, its core had nothing to do for a tenth of the time.
_SWITCH_S: Final = 0.0002


def run(
    settings: Settings,
    listener: socket.socket,
    on_ready: Callable[[], object] = lambda: None,
    on_turn: Callable[[], object] = lambda: None,
    *,
    waits_for_model: bool = False,
) -> None:
    """Serves until a signal comes; see `app.server.run` and `app.main.create_app`.

    Raises:
        SettingsError: the settings hold something that cannot be used.
    """
    sys.setswitchinterval(_SWITCH_S)

    async def serve() -> None:
        serving = Serving(settings)
        # Two threads that import the same modules may meet in the middle, so what is large comes by itself.
        if engines.import_quickly(settings.engine):
            serving.begin()
        try:
            server = await asyncio.to_thread(_made, settings, serving, on_ready, on_turn, waits_for_model)
        except BaseException:
            await serving.close()  # an engine may crash if the process ends while it is loaded
            raise
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def _made(
    settings: Settings,
    serving: Serving,
    on_ready: Callable[[], object],
    on_turn: Callable[[], object],
    waits_for_model: bool,
) -> "DrainServer":
    from app import server
    from app.main import create_app

    app = create_app(settings, begun=serving, waits_for_model=waits_for_model)
    return server.made(app, settings, on_ready, on_turn)
