"""Changes the version of a running service again and again while it is asked, and says what that cost.

    python benchmarks/rollouts.py --model model/resnet18-cifar10/2

By turns a version is published (a copy of the one given), rolled back by the file `serving.json`, and
promoted by a call. It exits with 1 if any request failed, if the memory that is resident at the end is more
than a tenth above that at the beginning, or if of the answers meanwhile one in a hundred took more than five
times as long as before. `CLASSIFIER_ENGINE=tensorflow` does the same with another engine.
"""

import argparse
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from latency import Latency

from app import manifest

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURE: Final = ROOT / "examples/cat.jpg"
GROWTH: Final = 1.10
SLOWER: Final = 5.0
LOOK_EVERY_S: Final = 0.05
SETTLE_S: Final = 3.0


@dataclass
class Tally:
    """What the callers got: statuses, the versions that answered, and the seconds each answer took."""

    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    taken_s: list[float] = field(default_factory=list)


class Service:
    """A running service and the folder of its model."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, folder: Path, key: str) -> None:
        self.process = process
        self.port = port
        self.folder = folder
        self._key = key

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/octet-stream"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    @property
    def live(self) -> str:
        return str(self.ask("GET", "/models")[1]["models"][0]["live"])

    @property
    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def running(version: Path) -> Iterator[Service]:
    """The service with a copy of this version as the only one, ready."""
    with tempfile.TemporaryDirectory() as root, socket.create_server(("127.0.0.1", 0)) as free:
        folder, port = Path(root) / version.parent.name, free.getsockname()[1]
        shutil.copytree(version, folder / version.name)
        free.close()
        key = secrets.token_hex(16)
        settings = {"PORT": str(port), "MODEL_ROOT": root, "MODEL_NAME": folder.name, "ADMIN_KEY": key}
        settings |= {"MODEL_POLL_S": "0.2", "LOG_LEVEL": "error", "DRAIN_S": "0"}
        own = {f"CLASSIFIER_{name}": value for name, value in settings.items()}
        process = subprocess.Popen([sys.executable, "-m", "app"], cwd=ROOT, env=os.environ | own)
        try:
            service = Service(process, port, folder, key)
            while not is_ready(service):
                time.sleep(LOOK_EVERY_S)
            yield service
        finally:
            process.terminate()
            process.wait()


def is_ready(service: Service) -> bool:
    if service.process.poll() is not None:
        raise SystemExit("The service ended before it was ready.")
    try:
        return service.ask("GET", "/readyz")[0] == 200
    except OSError:
        return False


def publish(folder: Path, version: Path) -> str:
    """A copy of the version under the next number, moved to its place when it is complete."""
    number = max(int(path.name) for path in folder.iterdir() if path.name.isdigit()) + 1
    staging = folder / f".staging-{number}"
    shutil.copytree(version, staging)
    document = json.loads((staging / manifest.FILE_NAME).read_text()) | {"version": number}
    (staging / manifest.FILE_NAME).write_text(json.dumps(document))
    staging.rename(folder / str(number))
    return str(number)


def change(service: Service, turn: int, version: Path) -> str:
    """The version that will be live."""
    decisions = service.folder / "serving.json"
    if turn % 3 == 0:
        decisions.unlink(missing_ok=True)
        return publish(service.folder, version)
    if turn % 3 == 1:
        decisions.write_text(json.dumps({"live": int(version.name)}))
        return version.name
    status, model = service.ask("PUT", f"/models/{service.folder.name}/live", b'{"version": "latest"}')
    if status != 200:
        raise SystemExit(f"The call to promote was answered with {status}: {model}")
    return str(model["live"])


def call(service: Service, tally: Tally, ending: threading.Event) -> None:
    picture = PICTURE.read_bytes()
    while not ending.is_set():
        began = time.perf_counter()
        status, answer = service.ask("POST", "/predict", picture)
        tally.taken_s.append(time.perf_counter() - began)
        tally.statuses[status] += 1
        if status == 200:
            tally.versions[answer["model"]["version"]] += 1


@contextmanager
def callers(service: Service, count: int) -> Iterator[Tally]:
    """So many that ask without a pause, until the block ends."""
    tally, ending = Tally(), threading.Event()
    threads = [threading.Thread(target=call, args=(service, tally, ending)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def change_often(service: Service, version: Path, times: int) -> tuple[list[float], float]:
    """The seconds that each change took, and the most memory that was seen meanwhile, in MiB."""
    taken_s, most = list[float](), 0.0
    for turn in range(times):
        began = time.perf_counter()
        wanted = change(service, turn, version)
        while service.live != wanted:
            most = max(most, service.resident_mib)
            time.sleep(LOOK_EVERY_S)
        taken_s.append(time.perf_counter() - began)
    return taken_s, most


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command.add_argument("--model", type=Path, required=True, metavar="PATH", help="folder of a version")
    command.add_argument("--changes", type=int, default=20, metavar="N", help="changes of the live version")
    command.add_argument("--callers", type=int, default=2, metavar="N", help="who ask without a pause")
    return command


def main() -> int:
    options = parser().parse_args()
    version = options.model.resolve()
    with running(version) as service:
        with callers(service, options.callers) as tally:
            time.sleep(SETTLE_S)
            before, calm = service.resident_mib, Latency.of(tally.taken_s)
            undisturbed = len(tally.taken_s)
            taken_s, most = change_often(service, version, options.changes)
        time.sleep(SETTLE_S)
        after = service.resident_mib
    asked, failed = tally.statuses.total(), tally.statuses.total() - tally.statuses[200]
    changing = Latency.of(tally.taken_s[undisturbed:])
    print(f"{options.changes} changes of the live version, {statistics.median(taken_s):.1f} s each (median)")
    print(f"{asked:,} requests, {failed} failed; {len(tally.versions)} versions answered")
    for when, took in (("before", calm), ("meanwhile", changing)):
        print(f"answers {when}: p50 {took.p50:.0f} ms, p99 {took.p99:.0f} ms, the longest {took.most:.0f} ms")
    print(f"resident: {before:.0f} MiB before, {most:.0f} at most, {after:.0f} after")
    return int(failed > 0 or after > GROWTH * before or changing.p99 > SLOWER * calm.p99)


if __name__ == "__main__":
    sys.exit(main())
