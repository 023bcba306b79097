"""Who is compared: this service, and the same job built on what people would otherwise pick.

Each peer does it as its own documentation shows. `settings` were chosen among `tried` for the most pictures
per second of 32 clients without failed requests; `compare.py --tune` repeats that choice on another machine.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PEERS: Final = ROOT / "benchmarks" / "peers"
OURS: Final = "ours"
BASELINE: Final = "fastapi-savedmodel"
TENSORFLOW: Final = "tensorflow"
FASTEST: Final = "auto"  # the engine that this service takes here, so that servers are compared
PORTS: Final = 3  # that a server may need

Settings = Mapping[str, str]


@dataclass(frozen=True)
class Route:
    """Where pictures are taken; `field` is that of the form, "" where there is none."""

    path: str
    field: str = ""


@dataclass(frozen=True)
class Contender:
    """A server to start: its Python runs `program`. `routes` has one for each kind of body that it takes.

    `environment` is a folder below `peers/`; None is this project's own. `settings` are variables of the
    process; `{0}` to `{2}` in them are free ports.
    """

    name: str
    title: str
    engine: str
    program: tuple[str, ...]
    routes: Mapping[str, Route]
    environment: str | None
    settings: Settings
    tried: Sequence[Settings] = field(default=(), repr=False)

    def python(self, environments: Path) -> str:
        if self.environment is None:
            return sys.executable
        return str(environments / self.environment / "bin" / "python")

    def variables(self, version: Path, ports: Sequence[int]) -> dict[str, str]:
        """For its process, which serves the published version in this folder."""
        settings = {name: value.format(*ports) for name, value in self.settings.items()}
        if self.environment is None:
            chosen = {"ROOT": version.parent.parent, "NAME": version.parent.name, "VERSION": version.name}
            return settings | {f"CLASSIFIER_MODEL_{name}": str(value) for name, value in chosen.items()}
        peer = {"PEER_MODEL": version, "PEER_ENGINE": self.engine, "PEER_PORT": ports[0]}
        return settings | {name: str(value) for name, value in peer.items()}

    def with_settings(self, changed: Settings) -> "Contender":
        return replace(self, settings={**self.settings, **changed})

    @property
    def main_body(self) -> str:
        """The kind of body that it is compared with: a form where it takes one."""
        return "multipart" if "multipart" in self.routes else next(iter(self.routes))


def _batched(workers: int, threads: int, batch: int, timeout_s: float, **more: str) -> dict[str, str]:
    """Processes with a model each, cores for each model (0 for all), and the limits of a batch."""
    settings = {"WORKERS": workers, "THREADS": threads, "BATCH": batch, "TIMEOUT_S": timeout_s}
    return {f"PEER_{name}": str(value) for name, value in settings.items()} | more


_FORM_AND_RAW: Final = {"multipart": Route("/predict", "file"), "raw": Route("/predict/raw")}
_BATCHES: Final = [(1, 0, 8), (1, 0, 32), (2, 1, 8), (2, 1, 32)]
_LITSERVE_TRIED: Final = [
    _batched(*limits, timeout_s, PEER_FAST_QUEUE=queue)
    for limits in [(1, 0, 1), (2, 1, 1), *_BATCHES]
    for timeout_s in ((0.002, 0.01) if limits[2] > 1 else (0.0,))
    for queue in "01"
]
_BENTOML_TRIED: Final = [
    _batched(*limits, timeout_s) for limits in [(1, 0, 1), (2, 1, 1), *_BATCHES] for timeout_s in (1.0, 60.0)
]
_RAY_TRIED: Final = [_batched(*limits, timeout_s) for limits in _BATCHES for timeout_s in (0.002, 0.01)]
_MLSERVER: Final = {
    "MLSERVER_HOST": "127.0.0.1",
    "MLSERVER_HTTP_PORT": "{0}",
    "MLSERVER_GRPC_PORT": "{1}",
    "MLSERVER_METRICS_PORT": "{2}",
    "MLSERVER_DEBUG": "false",
}


def _mlserver(processes: int, batch: int, timeout_s: float) -> dict[str, str]:
    """`processes` beside the one that takes requests; with 0 it runs the model too."""
    limits = {"PARALLEL_WORKERS": processes, "MODEL_MAX_BATCH_SIZE": batch, "MODEL_MAX_BATCH_TIME": timeout_s}
    return {f"MLSERVER_{name}": str(value) for name, value in limits.items()}


_MLSERVER_TRIED: Final = [
    _mlserver(processes, batch, timeout_s)
    for processes in (0, 1)
    for batch in (8, 32)
    for timeout_s in (0.002, 0.01)
]


def _litserve(name: str, engine: str, settings: Settings) -> Contender:
    routes = {"multipart": Route("/predict", "request")}
    program = (str(PEERS / "litserve" / "server.py"),)
    return Contender(name, "LitServe", engine, program, routes, "litserve", settings, _LITSERVE_TRIED)


def _bentoml(name: str, engine: str, settings: Settings) -> Contender:
    routes = {"multipart": Route("/predict", "file")}
    program = ("-m", "bentoml", "serve", "service:Classifier", "--working-dir", str(PEERS / "bentoml"))
    return Contender(name, "BentoML", engine, program, routes, "bentoml", settings, _BENTOML_TRIED)


def _fastapi(name: str, title: str, file: str) -> Contender:
    program = (str(PEERS / "fastapi" / file),)
    return Contender(name, title, TENSORFLOW, program, _FORM_AND_RAW, "fastapi", {})


CONTENDERS: Final = (
    Contender(
        OURS,
        "this service",
        FASTEST,
        ("-m", "app"),
        {"multipart": Route("/predict", "file"), "raw": Route("/predict")},
        None,
        {"CLASSIFIER_PORT": "{0}", "CLASSIFIER_LOG_LEVEL": "warning", "CLASSIFIER_DRAIN_S": "0"},
        [{"CLASSIFIER_WORKERS": "1"}, {"CLASSIFIER_WORKERS": "2"}],
    ),
    _fastapi("fastapi-keras", "FastAPI, Model.predict", "keras_predict.py"),
    _fastapi(BASELINE, "FastAPI, SavedModel signature", "saved_model.py"),
    _litserve("litserve", TENSORFLOW, _batched(2, 1, 8, 0.01, PEER_FAST_QUEUE="0")),
    _bentoml("bentoml", TENSORFLOW, _batched(1, 0, 32, 60.0)),
    Contender(
        "rayserve",
        "Ray Serve",
        TENSORFLOW,
        (str(PEERS / "rayserve" / "server.py"),),
        _FORM_AND_RAW,
        "rayserve",
        {"RAY_USAGE_STATS_ENABLED": "0", **_batched(1, 0, 32, 0.01)},
        _RAY_TRIED,
    ),
    Contender(
        "mlserver",
        "MLServer",
        TENSORFLOW,
        ("-m", "mlserver.cli.main", "start", str(PEERS / "mlserver")),
        {"v2": Route("/v2/models/classifier/infer")},
        "mlserver",
        {**_MLSERVER, **_mlserver(0, 32, 0.01)},
        _MLSERVER_TRIED,
    ),
    _litserve("litserve-int8", FASTEST, _batched(2, 1, 8, 0.01, PEER_FAST_QUEUE="0")),
    _bentoml("bentoml-int8", FASTEST, _batched(1, 0, 32, 60.0)),
)
