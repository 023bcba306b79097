"""How a process that serves starts: the model is loaded while the framework is imported.

On OpenVINO each takes most of a second, and neither needs the other before the end. What an engine computes
while it is loaded needs no lock of Python's, so on two cores both go on at the same time.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import uvloop

from app import engines
from app.loading import Choose
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
    choose: Choose | None = None,
    waits_for_model: bool = False,
) -> None:
    """Serves until a signal comes.

    `on_ready` is called once, when it can answer, and `on_turn` ten times a second, as long as it does; for
    the others see `app.main.create_app`.

    Raises:
        SettingsError: the settings hold something that cannot be used.
    """

    def imported(serving: Serving) -> "DrainServer":
        from app.main import create_app
        from app.server import server_of

        app = create_app(settings, begun=serving, waits_for_model=waits_for_model)
        return server_of(app, settings, on_ready, on_turn)

    async def serve() -> None:
        serving = Serving(settings, choose)
        # Two threads that import the same modules may meet in the middle, so what is large comes by itself.
        if choose is not None or engines.import_quickly(settings.engine):
            serving.begin()
        try:
            server = await asyncio.to_thread(imported, serving)
        except BaseException:
            await serving.close()  # an engine may crash if the process ends while it is loaded
            raise
        await server.serve(sockets=[listener])

    sys.setswitchinterval(_SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
