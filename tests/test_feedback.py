"""Feedback on answers: taken when it fits one, kept through a kill, and counted for what it is worth."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from conftest import Encode, free_port, serve
from fakes import MODEL, FakeEngine, publish_fake
from test_service import environment

from app.errors import FeedbackStoreError, UnknownLabelError, UnknownPredictionError
from app.feedback_store import FeedbackStore, Prediction
from app.manifest import Manifest
from app.repository import Repository
from app.settings import Settings

ServingWith = Callable[[Settings, FakeEngine], AbstractContextManager[httpx.Client]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service that takes feedback; tests use request ids of their own."""
    folder = tmp_path_factory.mktemp("feedback")
    publish_fake(Repository(folder / "model"))
    settings = Settings(
        model_root=folder / "model", model_name=MODEL, feedback_file=folder / "feedback.sqlite"
    )
    with serve(settings, FakeEngine()) as client:
        yield client


def predict(client: httpx.Client, data: bytes, request_id: str = "") -> str:
    """The id under which the picture was answered."""
    headers = {"X-Request-ID": request_id} if request_id else {}
    answer = client.post("/predict", files={"file": data}, headers=headers)
    assert answer.status_code == 200
    return str(answer.headers["x-request-id"])


def give(client: httpx.Client, request_id: str, label: str, **more: Any) -> httpx.Response:
    return client.post("/feedback", json={"request_id": request_id, "label": label, **more})


def test_feedback_on_an_answer_says_what_was_understood(service: httpx.Client, encode: Encode) -> None:
    request_id = predict(service, encode("red"))
    answer = give(service, request_id, "green")
    assert answer.status_code == 201
    assert answer.json() == {
        "request_id": request_id,
        "index": 0,
        "label": "green",
        "answered": "red",
        "correct": False,
        "model": MODEL,
        "version": "1",
        "replaced": False,
    }


def test_who_says_something_else_later_has_the_last_word(service: httpx.Client, encode: Encode) -> None:
    request_id = predict(service, encode("red"))
    before = pictures(service)
    assert give(service, request_id, "green").status_code == 201
    again = give(service, request_id, "red")
    assert (again.status_code, again.json()["replaced"], again.json()["correct"]) == (200, True, True)
    assert pictures(service) == before + 1


def test_each_picture_of_several_has_feedback_of_its_own(service: httpx.Client, encode: Encode) -> None:
    files = [("file", encode("red")), ("file", b"no picture"), ("file", encode("blue"))]
    request_id = service.post("/predict/batch", files=files).headers["x-request-id"]
    assert give(service, request_id, "blue", index=2).json()["correct"]
    assert give(service, request_id, "blue", index=0).json()["answered"] == "red"
    failed = give(service, request_id, "blue", index=1)
    assert (failed.status_code, failed.json()["code"]) == (404, "unknown_prediction")
    assert "with the index 1" in failed.json()["detail"]


@pytest.mark.parametrize("request_id", ["nobody", "x" * 128, "'; DROP TABLE predictions; --"])
def test_an_id_that_was_never_answered_is_told_where_ids_are_found(
    service: httpx.Client, request_id: str
) -> None:
    answer = give(service, request_id, "red")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_prediction")
    assert "X-Request-ID" in answer.json()["detail"]
    assert "168 hours" in answer.json()["detail"]


def test_a_class_that_does_not_exist_is_told_which_do(service: httpx.Client, encode: Encode) -> None:
    answer = give(service, predict(service, encode("red")), "purple")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_label")
    assert "red, green, blue" in answer.json()["detail"]
    assert "purple" not in answer.text


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "its beginning"),
        (b"[]", "its beginning"),
        (b'{"label": "red"}', "request_id"),
        (b'{"request_id": "a"}', "label"),
        (b'{"request_id": "", "label": "red"}', "request_id"),
        (b'{"request_id": 1, "label": "red"}', "request_id"),
        (b'{"request_id": "a", "label": "red", "index": -1}', "index"),
        (b'{"request_id": "a", "label": "red", "index": true}', "index"),
        (b'{"request_id": "a", "label": "red", "truth": 1}', "truth"),
        (b'{"request_id": "\xff", "label": "red"}', "its beginning"),
        (b"[" * 4000, "its beginning"),
    ],
)
def test_what_is_no_feedback_is_told_what_is_wrong(service: httpx.Client, body: bytes, where: str) -> None:
    answer = service.post("/feedback", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert f"not valid at {where}:" in answer.json()["detail"]


def test_long_feedback_is_refused_before_it_is_read(service: httpx.Client) -> None:
    answer = service.post("/feedback", content=bytes(5000))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_without_a_file_there_is_no_feedback(client: httpx.Client, encode: Encode) -> None:
    for answer in (give(client, predict(client, encode("red")), "red"), client.get("/feedback/summary")):
        assert (answer.status_code, answer.json()["code"]) == (501, "feedback_off")
        assert "CLASSIFIER_FEEDBACK_FILE" in answer.json()["detail"]


def test_the_summary_and_the_metrics_count_what_was_said(
    settings: Settings, serving_with: ServingWith, encode: Encode, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"feedback_file": tmp_path / "feedback.sqlite"})
    with serving_with(settings, FakeEngine()) as client:
        assert client.get("/feedback/summary").json() == {"versions": []}
        for truth in ("red", "red", "red", "blue", "blue", "green"):
            assert give(client, predict(client, encode("red")), truth).status_code == 201
        (found,) = client.get("/feedback/summary").json()["versions"]
        assert (found["model"], found["version"], found["pictures"]) == (MODEL, "1", 6)
        assert found["accuracy"]["value"] == 0.5
        assert 0.1 < found["accuracy"]["low"] < 0.5 < found["accuracy"]["high"] < 0.9
        assert found["confidence"] > 0.99
        assert found["calibration_error"]["value"] == pytest.approx(found["confidence"] - 0.5, abs=0.51)
        assert found["brier"]["value"] == pytest.approx(1.0, abs=0.05)
        assert found["mistakes"] == [
            {"truth": "blue", "answer": "red", "count": 2},
            {"truth": "green", "answer": "red", "count": 1},
        ]
        labels = f'{{model="{MODEL}",version="1"}}'
        until(lambda: f"classifier_feedback_pictures{labels} 6.0" in client.get("/metrics").text)
        text = client.get("/metrics").text
        assert f"classifier_feedback_accuracy_ratio{labels} 0.5" in text
        assert f"classifier_feedback_brier_low{labels} " in text


def test_a_lone_picture_has_no_interval_where_it_would_have_no_width(
    settings: Settings, serving_with: ServingWith, encode: Encode, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"feedback_file": tmp_path / "feedback.sqlite"})
    with serving_with(settings, FakeEngine()) as client:
        give(client, predict(client, encode("red")), "red")
        (found,) = client.get("/feedback/summary").json()["versions"]
        assert found["pictures"] == 1
        for name in ("brier", "calibration_error"):
            assert (found[name]["low"], found[name]["high"]) == (None, None)
        assert found["accuracy"]["low"] < 0.5
        until(lambda: "classifier_feedback_brier{" in client.get("/metrics").text)
        assert "classifier_feedback_brier_low" not in client.get("/metrics").text


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def pictures(client: httpx.Client) -> int:
    versions = client.get("/feedback/summary").json()["versions"]
    return sum(version["pictures"] for version in versions)


# The file


@pytest.fixture
def version_manifest(repository: Repository) -> Manifest:
    return repository.open(MODEL).manifest


def prediction(manifest: Manifest, request_id: str, at: float = 1000.0) -> Prediction:
    return Prediction(request_id, 0, at, manifest, np.array([0.7, 0.2, 0.1], dtype=np.float32))


def test_predictions_are_forgotten_when_they_are_too_old_or_too_many(
    tmp_path: Path, version_manifest: Manifest
) -> None:
    with closing(FeedbackStore(tmp_path / "file", max_predictions=3, max_age_s=100)) as store:
        store.remember([prediction(version_manifest, "old", at=850)])
        store.remember(prediction(version_manifest, f"{n}") for n in range(5))
        with pytest.raises(UnknownPredictionError):
            store.label("old", 0, "red", now=1000)
        assert store.label("0", 0, "red", now=1000).answer == "red"
        store.prune(now=1000)
        for n in range(2):
            with pytest.raises(UnknownPredictionError):
                store.label(f"{n}", 0, "red", now=1000)
        for n in range(2, 5):
            store.label(f"{n}", 0, "green", now=1000)
        assert len(store.samples()[0].answer) == 4, "feedback outlives the predictions"


def test_an_id_that_is_used_again_means_the_newest_answer(tmp_path: Path, version_manifest: Manifest) -> None:
    with closing(FeedbackStore(tmp_path / "file", max_predictions=9, max_age_s=100)) as store:
        again = Prediction("a", 0, 1000.0, version_manifest, np.array([0.1, 0.1, 0.8], dtype=np.float32))
        store.remember([prediction(version_manifest, "a"), again])
        assert store.label("a", 0, "red", now=1000).answer == "blue"


def test_a_version_whose_number_is_used_again_keeps_its_own_classes(
    tmp_path: Path, version_manifest: Manifest
) -> None:
    other = version_manifest.model_copy(update={"class_names": ("cat", "dog", "frog")})
    with closing(FeedbackStore(tmp_path / "file", max_predictions=9, max_age_s=100)) as store:
        store.remember([prediction(version_manifest, "a"), prediction(other, "b")])
        assert store.label("a", 0, "red", now=1000).answer == "red"
        assert store.label("b", 0, "dog", now=1000).answer == "cat"
        with pytest.raises(UnknownLabelError):
            store.label("b", 0, "red", now=1000)


def test_the_brier_score_is_the_squared_distance_from_the_truth(
    tmp_path: Path, version_manifest: Manifest
) -> None:
    with closing(FeedbackStore(tmp_path / "file", max_predictions=9, max_age_s=100)) as store:
        store.remember([prediction(version_manifest, "a")])
        store.label("a", 0, "green", now=1000)
        (sample,) = store.samples()
    assert sample.brier == pytest.approx([0.7**2 + 0.8**2 + 0.1**2])
    assert sample.confidence == pytest.approx([0.7])


@pytest.mark.parametrize("content", [b"no database", None])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is None:
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE accounts (name TEXT)")
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(FeedbackStoreError, match="CLASSIFIER_FEEDBACK_FILE names"):
        FeedbackStore(path, max_predictions=1, max_age_s=1)
    assert path.read_bytes() == before


def test_processes_that_come_at_the_same_time_make_one_file(tmp_path: Path) -> None:
    begin = threading.Barrier(4)

    def open_it(path: Path) -> None:
        begin.wait(timeout=20)
        FeedbackStore(path, max_predictions=1, max_age_s=1).close()

    with ThreadPoolExecutor(4) as pool:
        for n in range(5):
            opened = [pool.submit(open_it, tmp_path / f"file{n}") for _ in range(4)]
            for each in opened:
                each.result()


def test_a_file_that_cannot_be_made_stops_the_start(settings: Settings, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "--model-root", str(settings.model_root), "--port", "0"]
    command += ["--feedback-file", str(tmp_path / "nowhere" / "file")]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environment())
    assert ended.returncode == 2
    assert "CLASSIFIER_FEEDBACK_FILE names cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_disk_that_cannot_follow_costs_no_answer(
    settings: Settings, serving_with: ServingWith, encode: Encode, tmp_path: Path
) -> None:
    path = tmp_path / "feedback.sqlite"
    with serving_with(settings.model_copy(update={"feedback_file": path}), FakeEngine()) as client:
        with closing(sqlite3.connect(path, isolation_level=None)) as vandal:
            vandal.execute("DROP TABLE predictions")
        request_id = predict(client, encode("red"))
        failed = give(client, request_id, "red")
        assert (failed.status_code, failed.json()["code"]) == (503, "feedback_store_failed")
        assert str(tmp_path) not in failed.text
        assert "classifier_predictions_unremembered_total 1.0" in client.get("/metrics").text


# A process that is killed


def start(repository: Repository, path: Path, port: int) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("slow_service.py")
    variables = environment() | {"CLASSIFIER_FEEDBACK_FILE": str(path)}
    return subprocess.Popen(
        [sys.executable, str(script), str(repository.root), str(port), "0"],
        env=variables,
        stderr=subprocess.DEVNULL,
    )


def test_feedback_survives_a_kill_and_so_do_the_ids_that_it_may_come_for(
    repository: Repository, tmp_path: Path, encode: Encode
) -> None:
    path, port = tmp_path / "feedback.sqlite", free_port()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, verify=False) as client:
        process = start(repository, path, port)
        try:
            until(lambda: is_ready(client))
            later = predict(client, encode("red"))
            assert give(client, predict(client, encode("red")), "green").status_code == 201
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        process = start(repository, path, port)
        try:
            until(lambda: is_ready(client))
            assert pictures(client) == 1
            assert give(client, later, "red").status_code == 201
            (found,) = client.get("/feedback/summary").json()["versions"]
            assert (found["pictures"], found["accuracy"]["value"]) == (2, 0.5)
        finally:
            process.kill()
            process.wait()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
