"""The model is loaded while the framework is imported, and neither is left half done."""

import socket
import subprocess
import sys
import threading
from typing import NoReturn

import pytest

import app.main
from app import start
from app.errors import SettingsError
from app.repository import Version
from app.settings import Settings

WHAT_IS_IMPORTED = """
import asyncio, socket, sys
from app import start
from app.serving import Serving

class Watched(Serving):
    def begin(self):
        print("fastapi" in sys.modules, "app.engines.openvino" in sys.modules)
        sys.exit()

start.Serving = Watched
from app.settings import Settings
start.run(Settings(engine="openvino"), socket.socket())
"""


def test_the_model_is_on_its_way_before_the_framework_is_there() -> None:
    """And its library is: two threads that import may meet in the middle."""
    ended = subprocess.run(
        [sys.executable, "-c", WHAT_IS_IMPORTED], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.stdout == "False True\n"


def test_a_start_that_fails_leaves_no_engine_that_is_being_loaded(
    openvino_model: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise SettingsError("This cannot be used.")

    monkeypatch.setattr(app.main, "create_app", refuse)
    path = openvino_model.path
    settings = Settings(model_root=path.parent.parent, model_name=path.parent.name, engine="openvino-float32")
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(SettingsError):
        start.run(settings, listener)
    assert "loader" not in {thread.name for thread in threading.enumerate()}
