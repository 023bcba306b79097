"""The engine winograd gives what the network says to the last bit of float32, however it is asked."""

import gc
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import int8_networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_networks import STEP, Block, Plan
from numpy.typing import NDArray

from app import engines, golden, processor
from app.engines import Prediction, winograd
from app.engines.winograd import WinogradEngine, kernel, network
from app.engines.winograd.network import Convolution, Network
from app.engines.winograd.program import Program
from app.errors import EngineError, EngineUnavailableError
from app.manifest import GOLDEN_NAME
from app.repository import Repository

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = "resnet18-cifar10"
ALMOST = 1e-5  # the rounding of float32 in the last layers

needs_kernel = pytest.mark.skipif(not winograd.is_usable(), reason="not compiled, or not for this processor")


def assert_same(found: Prediction, expected: Prediction, within: float = ALMOST) -> None:
    assert found.probabilities == pytest.approx(expected.probabilities, abs=within)
    assert found.ood_score == pytest.approx(expected.ood_score, rel=within)


def assert_identical(found: Prediction, expected: Prediction) -> None:
    assert np.array_equal(found.probabilities, expected.probabilities)
    assert np.array_equal(found.ood_score, expected.ood_score)


def loaded(made: Network, folder: Path, threads: int = 2, streams: int = 0) -> WinogradEngine:
    int8_networks.write(made, folder)
    return WinogradEngine(folder, threads, streams)


def forms(made: Network) -> list[int]:
    """Those in which the convolutions are computed."""
    return [each.form for each in Program(made, 1)._convolutions]


@pytest.fixture(scope="module")
def made() -> Network:
    """Every form, 1x1 convolutions, sums, and results of many places and of few."""
    blocks = (Block(32), Block(64, 2, shortcut_first=True), Block(64), Block(96, 2), Block(32, has_sum=False))
    return int8_networks.made_up(Plan(24, 16, blocks, classes=5))


@pytest.fixture(scope="module")
def folder(made: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("version")
    int8_networks.write(made, path)
    return path


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no compiler")
@pytest.mark.skipif(not processor.flags() >= {"avx2", "fma"}, reason="not for this processor")
def test_where_there_is_a_compiler_it_was_built_from_what_is_there() -> None:
    """By `make install`: otherwise the tests below would be left out, and nobody would know."""
    assert winograd.is_usable(), "run python app/engines/winograd/build.py"


PLANS = st.builds(
    Plan,
    height=st.sampled_from([4, 8, 12, 16, 20]),
    width=st.sampled_from([4, 8, 12, 16, 24]),
    blocks=st.lists(
        st.builds(
            Block,
            channels=st.sampled_from([32, 64, 96]),
            stride=st.sampled_from([1, 1, 2]),
            has_sum=st.booleans(),
            shortcut_first=st.booleans(),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    channels=st.sampled_from([32, 64]),
    classes=st.integers(2, 13),
    seed=st.integers(0, 2**32 - 1),
)


@needs_kernel
@given(plan=PLANS, count=st.integers(1, 5), threads=st.integers(1, 3))
@settings(max_examples=60)
def test_it_gives_exactly_what_the_network_says(
    tmp_path_factory: pytest.TempPathFactory, plan: Plan, count: int, threads: int
) -> None:
    made = int8_networks.made_up(plan)
    engine = loaded(made, tmp_path_factory.mktemp("version"), threads)
    images = int8_networks.pictures(made, count, plan.seed)
    assert_same(engine.predict(images), int8_networks.exactly(made, images))
    engine.close()


@needs_kernel
@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 9), (2, 2), (3, 3), (5, 4), (6, 10), (7, 7), (4, 4), (4, 40), (22, 8)]
)
@pytest.mark.parametrize("has_sum", [True, False])
def test_it_computes_pictures_of_any_size(height: int, width: int, has_sum: bool, tmp_path: Path) -> None:
    made = int8_networks.made_up(Plan(height, width, (Block(32, has_sum=has_sum), Block(64))))
    engine = loaded(made, tmp_path)
    for count in (1, 3):
        images = int8_networks.pictures(made, count)
        assert_same(engine.predict(images), int8_networks.exactly(made, images))
    engine.close()


@needs_kernel
@pytest.mark.parametrize("side", [2, 4, 6, 8, 10, 12, 20, 32])
def test_a_convolution_of_stride_2_begins_behind_the_border(side: int, tmp_path: Path) -> None:
    made = int8_networks.made_up(Plan(side, side + 4, (Block(64, 2, has_sum=False),)))
    engine = loaded(made, tmp_path)
    for count in (1, 8):
        images = int8_networks.pictures(made, count)
        assert_same(engine.predict(images), int8_networks.exactly(made, images))
    engine.close()


def with_odd_scales(made: Network) -> Network:
    """Those that float16 spoils would leave many sums just between two steps, and any rounding decides."""
    scaled = [replace(each, scale=each.scale * np.float32(1.0712)) for each in made.convolutions]
    return replace(made, convolutions=tuple(scaled))


@needs_kernel
@pytest.mark.parametrize("compressed", [True, False])
def test_openvino_understands_the_same_file_in_the_same_way(
    made: Network, compressed: bool, tmp_path: Path
) -> None:
    int8_networks.write(with_odd_scales(made), tmp_path, compressed=compressed)
    images = int8_networks.pictures(made, 5)
    ours, theirs = (engines.choose(name, tmp_path, 1) for name in ("winograd-int8", "openvino-int8"))
    assert_same(ours.predict(images), theirs.predict(images), within=1e-4)


@needs_kernel
def test_what_is_stored_as_float16_is_read_as_such(made: Network, tmp_path: Path) -> None:
    path = int8_networks.write(with_odd_scales(made), tmp_path, compressed=True)
    assert 'element_type="f16"' in path.read_text()
    images = int8_networks.pictures(made, 3)
    expected = int8_networks.exactly(network.read(path), images)
    assert_same(WinogradEngine(tmp_path, 1).predict(images), expected, within=1e-4)


@needs_kernel
def test_the_version_that_ships_gives_what_was_recorded_and_what_openvino_gives() -> None:
    repository = Repository(ROOT / "model")
    if not repository.versions(SHIPPED):
        pytest.skip("no version of the model that ships is published in this checkout")
    version = repository.open(SHIPPED)
    recorded = golden.read(version.path / GOLDEN_NAME)
    ours = engines.choose("winograd", version.path, 2)
    found = golden.replay(recorded, ours, version.manifest.golden_tolerance["int8"])
    expected = engines.choose("openvino-int8", version.path, 2).predict(recorded.pixels)
    assert_same(found, expected, within=0.02)
    ours.close()


# ---- sums as large as they may be --------------------------------------------------------------------------


def one_colour_in_all_channels(
    weight: int, channels: int, out: int, *, height: int = 8, width: int = 8
) -> Network:
    """A 3x3 convolution with this weight everywhere, whose activations are red, as it is, in all channels."""
    plan = Plan(height, width, (Block(out, has_sum=False),), channels=channels)
    made = int8_networks.made_up(plan)
    weights = np.zeros((channels, 3, 3, 3), np.float32)
    weights[:, 0, 1, 1] = 1
    none = np.zeros(channels, np.float32)
    stem = replace(
        made.stem,
        factor=np.full(3, STEP, np.float32),
        shift=np.zeros(3, np.float32),
        weights=weights,
        bias=none,
    )
    (convolution,) = made.convolutions
    convolution = replace(
        convolution,
        weights=np.full_like(convolution.weights, weight),
        # All of 255 at the centre of a picture comes out as 4.
        scale=np.full(out, 4 / (255 * 9 * channels * abs(weight)), np.float32),
        bias=np.linspace(0, 2, out).astype(np.float32) + (4 if weight < 0 else 0),
    )
    return replace(made, stem=stem, convolutions=(convolution,))


def extreme_pictures(made: Network) -> NDArray[np.uint8]:
    """All that is bright, and for every product of a tile pictures that are bright just where it adds."""
    lines: list[Any] = [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
        [1, 0, -1, 0],
        [0, 1, 1, 0],
        [0, -1, 1, 0],
        [0, 1, 0, -1],
        [1, 0, -1, 0, 0],
        [0, 0, -1, 0, 1],
    ]
    patterns = [np.ones((1, 1))]
    for down in lines:
        for across in (each for each in lines if len(each) == len(down)):
            patterns += [sign * np.outer(down, across) for sign in (1, -1)]
    bright = np.zeros((2 * len(patterns), made.height, made.width, 3), np.uint8)
    for number, pattern in enumerate(patterns):
        rows, columns = (min(sides) for sides in zip(pattern.shape, (made.height, made.width), strict=True))
        repeated = np.tile(pattern > 0, (made.height, made.width))[: made.height, : made.width]
        bright[2 * number, ..., 0] = repeated * 255
        # A tile that begins on the border, and one that does not.
        bright[2 * number + 1, : rows - 1, : columns - 1, 0] = (pattern[1:rows, 1:columns] > 0) * 255
        bright[2 * number + 1, 3 : 3 + rows, 3 : 3 + columns, 0] = (pattern > 0)[
            : made.height - 3, : made.width - 3
        ] * 255
    return bright


@needs_kernel
@pytest.mark.parametrize(
    ("weight", "channels", "form"),
    [
        (127, 64, kernel.WINOGRAD_4),
        (-127, 64, kernel.WINOGRAD_4),
        (-128, 64, kernel.WINOGRAD_4),
        # 255 x 49 x 18 for each channel and unit of weight: 99 is the last that fits 31 bits.
        (99, 96, kernel.WINOGRAD_4),
        (100, 96, kernel.WINOGRAD_2),
        (-127, 128, kernel.WINOGRAD_2),
        # 255 x 9 x 4 for each channel and unit of weight.
        (127, 1824, kernel.WINOGRAD_2),
        (127, 1856, kernel.DIRECT),
    ],
)
@pytest.mark.parametrize("width", [8, 16])  # few places, and enough for tiles of one picture
def test_sums_at_the_bound_are_exact_and_those_that_would_pass_it_are_computed_in_another_form(
    weight: int, channels: int, form: int, width: int, tmp_path: Path
) -> None:
    made = one_colour_in_all_channels(weight, channels, out=32, width=width)
    assert forms(made) == [form]
    images = extreme_pictures(made)
    if channels > 128:
        images = images[::7]
    engine = loaded(made, tmp_path)
    expected = int8_networks.exactly(made, images)
    assert_same(engine.predict(images), expected, within=1e-5)
    alone = [engine.predict(images[number : number + 1]) for number in range(0, len(images), 5)]
    assert_same(
        Prediction.joined(alone),
        Prediction(expected.probabilities[::5], expected.ood_score[::5]),
        within=1e-5,
    )
    engine.close()


@needs_kernel
@pytest.mark.parametrize("weight", [127, -128])
def test_a_convolution_of_stride_2_is_exact_at_the_largest_weights(weight: int, tmp_path: Path) -> None:
    made = one_colour_in_all_channels(weight, 128, out=32)
    made = replace(made, convolutions=(replace(made.convolutions[0], stride=2),))
    images = extreme_pictures(made)
    engine = loaded(made, tmp_path)
    assert_same(engine.predict(images), int8_networks.exactly(made, images), within=1e-5)
    engine.close()


@needs_kernel
@pytest.mark.parametrize(
    ("height", "width", "form"),
    [
        (8, 8, kernel.WINOGRAD_4),
        (32, 4, kernel.WINOGRAD_4),
        (6, 8, kernel.WINOGRAD_2),
        (10, 10, kernel.WINOGRAD_2),
        (5, 8, kernel.DIRECT),
        (7, 7, kernel.DIRECT),
    ],
)
def test_the_largest_tile_that_divides_a_picture_is_taken(height: int, width: int, form: int) -> None:
    made = int8_networks.made_up(Plan(height, width, (Block(32),)))
    assert forms(made) == [form] * 2


@needs_kernel
def test_sums_that_fit_no_form_are_refused() -> None:
    made = int8_networks.made_up(Plan(4, 4, (Block(32, has_sum=False),)))
    deep = 2**31 // (255 * 128 * 9) // 32 * 32 + 32
    (convolution,) = made.convolutions
    stem = replace(made.stem, weights=np.zeros((deep, 3, 3, 3), np.float32), bias=np.zeros(deep, np.float32))
    weights = np.full((32, deep, 3, 3), -128, np.int8)
    with pytest.raises(EngineUnavailableError, match=f"sums of a convolution of {deep} channels do not fit"):
        Program(replace(made, stem=stem, convolutions=(replace(convolution, weights=weights),)), 1)


# ---- however it is asked -----------------------------------------------------------------------------------


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 6])
def test_a_lone_picture_by_several_cores_is_the_same_as_in_a_batch(
    made: Network, folder: Path, threads: int
) -> None:
    engine, images = WinogradEngine(folder, threads), int8_networks.pictures(made, 8)
    together = engine.predict(images)
    alone = [engine.predict(images[number : number + 1]) for number in range(8)]
    assert_identical(Prediction.joined(alone), together)
    engine.close()


@needs_kernel
def test_a_picture_has_the_same_answer_in_a_batch_of_any_size_and_at_any_place(
    made: Network, folder: Path
) -> None:
    engine, images = WinogradEngine(folder, 2), int8_networks.pictures(made, 17)
    expected = engine.predict(images)
    assert_same(expected, int8_networks.exactly(made, images))
    for count in range(1, 17):
        found = engine.predict(images[17 - count :])
        assert_identical(
            found, Prediction(expected.probabilities[17 - count :], expected.ood_score[17 - count :])
        )
    engine.close()


@needs_kernel
@pytest.mark.parametrize(("threads", "streams"), [(1, 1), (2, 0), (4, 2), (4, 0)])
def test_threads_that_ask_at_the_same_time_each_get_their_own_answers(
    made: Network, folder: Path, threads: int, streams: int
) -> None:
    engine, images = WinogradEngine(folder, threads, streams), int8_networks.pictures(made, 40)
    expected = engine.predict(images)
    asked = [(start, count) for start in range(30) for count in (1, 2, 1, 9)]
    with ThreadPoolExecutor(engine.concurrency + engine.ahead) as pool:
        answers = list(pool.map(lambda part: engine.predict(images[part[0] : sum(part)]), asked))
    for (start, count), found in zip(asked, answers, strict=True):
        rows = slice(start, start + count)
        assert_identical(found, Prediction(expected.probabilities[rows], expected.ood_score[rows]))
    engine.close()


@needs_kernel
def test_answers_stay_as_they_are_when_the_next_come(made: Network, folder: Path) -> None:
    engine, images = WinogradEngine(folder, 2), int8_networks.pictures(made, 4)
    for count in (1, 4):
        first = engine.predict(images[:count])
        kept = Prediction(first.probabilities.copy(), first.ood_score.copy())
        engine.predict(255 - images[:count])
        assert_identical(first, kept)
    engine.close()


@needs_kernel
def test_pixels_may_lie_in_memory_in_any_way(made: Network, folder: Path) -> None:
    engine, images = WinogradEngine(folder, 2), int8_networks.pictures(made, 6)
    for part in (images[:1], images):
        expected = engine.predict(part)
        fixed = part.copy()
        fixed.flags.writeable = False
        mirrored = part[:, :, ::-1].copy()[:, :, ::-1]
        for given_ in (fixed, mirrored, np.asfortranarray(part), np.stack([part, part], axis=-1)[..., 0]):
            assert_identical(engine.predict(given_), expected)
    assert_identical(engine.predict(images[::-1][::-1]), engine.predict(images))
    engine.close()


@needs_kernel
@pytest.mark.parametrize("shape", [(16, 24, 3), (24, 16, 1), (24, 16, 4), (23, 16, 3), (24, 16)])
def test_pictures_of_another_shape_are_refused_and_harm_nothing(
    made: Network, folder: Path, shape: tuple[int, ...]
) -> None:
    engine, images = WinogradEngine(folder, 1), int8_networks.pictures(made, 2)
    before = engine.predict(images)
    with pytest.raises(EngineError, match=r"Pictures of shape \[.*\] are not 24 x 16 x 3"):
        engine.predict(np.zeros((2, *shape), np.uint8))
    assert_identical(engine.predict(images), before)
    engine.close()


@needs_kernel
@pytest.mark.parametrize(
    ("threads", "streams", "concurrency"), [(4, 0, 4), (4, 2, 2), (2, 9, 2), (12, 0, 8), (1, 1, 1)]
)
def test_cores_are_shared_among_as_many_batches_as_is_said(
    folder: Path, threads: int, streams: int, concurrency: int
) -> None:
    engine = WinogradEngine(folder, threads, streams)
    assert engine.concurrency == concurrency
    engine.close()


@needs_kernel
def test_who_asks_ahead_waits_in_line_and_is_answered(made: Network, folder: Path) -> None:
    engine, images = WinogradEngine(folder, 1, 1), int8_networks.pictures(made, 8)
    assert (engine.concurrency, engine.ahead) == (1, 1)
    both_ask = threading.Barrier(2, timeout=10)

    def asked(_: int) -> Prediction:
        both_ask.wait()
        return engine.predict(images)

    expected = engine.predict(images)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(asked, range(10)):
            assert_identical(found, expected)
    engine.close()


# ---- the end -----------------------------------------------------------------------------------------------


def tasks() -> int:
    """Threads of this process, those of libraries among them."""
    return len(list(Path("/proc/self/task").iterdir()))


def falls_to(count: int) -> bool:
    """Whether there are no more threads than that in a moment: one that ended is listed a little longer."""
    until = time.monotonic() + 5
    while tasks() > count and time.monotonic() < until:
        time.sleep(0.01)
    return tasks() <= count


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@needs_kernel
def test_a_closed_engine_refuses_and_may_be_closed_again(made: Network, folder: Path) -> None:
    engine = WinogradEngine(folder, 2)
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        engine.predict(int8_networks.pictures(made, 1))
    engine.close()


@needs_kernel
def test_an_engine_may_be_closed_while_others_ask_it(made: Network, folder: Path) -> None:
    images = int8_networks.pictures(made, 3)
    for round_ in range(6):
        engine = WinogradEngine(folder, 3)
        before = tasks()
        expected = engine.predict(images)
        started = threading.Barrier(4, timeout=10)

        def ask(engine: WinogradEngine = engine, started: threading.Barrier = started) -> list[Prediction]:
            answers = []
            started.wait()
            while True:
                try:
                    answers.append(engine.predict(images))
                except EngineError:
                    return answers

        with ThreadPoolExecutor(3) as pool:
            asking = [pool.submit(ask) for _ in range(3)]
            started.wait()
            time.sleep(0.001 * round_)
            engine.close()
            for answer in (answer for each in asking for answer in each.result(timeout=10)):
                assert_identical(answer, expected)
        del engine, ask, asking
        gc.collect()
        assert falls_to(before - 2)  # the other cores of a lone picture


@needs_kernel
@pytest.mark.parametrize("closes", [True, False])
def test_an_engine_leaves_no_threads_and_no_memory_behind(made: Network, folder: Path, closes: bool) -> None:
    """Neither one that was closed nor one that nobody has any more."""

    def use() -> None:
        engine = WinogradEngine(folder, 4)
        engine.predict(int8_networks.pictures(made, 1))
        engine.predict(int8_networks.pictures(made, 8))
        assert tasks() > threads
        if closes:
            engine.close()

    threads = tasks()
    for _ in range(3):
        use()
    gc.collect()
    assert falls_to(threads)
    before = resident()
    for _ in range(20):
        use()
    gc.collect()
    assert falls_to(threads)
    assert resident() - before < 8 * 2**20  # each has several


@needs_kernel
def test_a_closed_engine_that_somebody_remembers_holds_no_memory(made: Network, folder: Path) -> None:
    """As versions are remembered by whoever may say what became of them."""

    def closed() -> WinogradEngine:
        engine = WinogradEngine(folder, 4)
        engine.predict(int8_networks.pictures(made, 8))
        engine.close()
        return engine

    closed()
    before = resident()
    remembered = [closed() for _ in range(20)]
    assert resident() - before < 8 * 2**20  # each had several
    assert all(engine.concurrency == 4 for engine in remembered)


@needs_kernel
def test_a_version_without_the_int8_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"was published without int8\.xml"):
        WinogradEngine(tmp_path, 1)


def test_a_processor_without_avx2_is_told_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "flags", lambda: frozenset({"avx", "sse4_2"}))
    assert not winograd.is_usable()
    with pytest.raises(EngineUnavailableError, match="has no avx2 and no fma"):
        WinogradEngine(tmp_path, 1)


def test_without_the_library_the_engine_says_how_to_compile_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "flags", lambda: frozenset({"avx2", "fma"}))
    monkeypatch.setattr(kernel, "library", lambda: tmp_path / "kernel-0.so")
    kernel.load.cache_clear()
    try:
        with pytest.raises(EngineUnavailableError, match=r"install gcc and run python app/engines/winograd"):
            WinogradEngine(tmp_path, 1)
        (tmp_path / "kernel-0.so").write_bytes(b"no library")
        with pytest.raises(EngineUnavailableError, match="cannot be loaded here"):
            WinogradEngine(tmp_path, 1)
        assert not winograd.is_usable()
    finally:
        kernel.load.cache_clear()


# ---- what would be read beyond its end is refused ----------------------------------------------------------


def changed(made: Network, number: int, **fields: Any) -> Network:
    convolutions: list[Convolution] = list(made.convolutions)
    convolutions[number] = replace(convolutions[number], **fields)
    return replace(made, convolutions=tuple(convolutions))


def zeros(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


@needs_kernel
@pytest.mark.parametrize(
    "change",
    [
        lambda made: replace(made, stem=replace(made.stem, weights=zeros(16, 3, 3, 3))),
        lambda made: replace(made, stem=replace(made.stem, weights=zeros(64, 3, 3, 3))),
        lambda made: replace(made, stem=replace(made.stem, bias=zeros(64))),
        lambda made: replace(made, height=0),
        lambda made: replace(made, height=-2),
        lambda made: replace(made, height=2**32 + 8),
        lambda made: changed(made, 0, bias=zeros(32)),
        lambda made: changed(made, 0, scale=zeros(32)),
        lambda made: changed(made, 0, weights=np.zeros((64, 64, 3, 3), np.int8)),
        lambda made: changed(
            made, 0, weights=np.zeros((40, 32, 3, 3), np.int8), bias=zeros(40), scale=zeros(40)
        ),
        lambda made: changed(made, 0, stride=2),
        lambda made: changed(made, 1, addend=0),
        lambda made: replace(made, head=replace(made.head, weights=zeros(3, 32))),
        lambda made: replace(
            made, head=replace(made.head, weights=zeros(0, 64), bias=zeros(0), centres=zeros(0, 64))
        ),
        lambda made: replace(made, head=replace(made.head, bias=zeros(2))),
        lambda made: replace(made, head=replace(made.head, centres=zeros(2, 64))),
        lambda made: replace(made, head=replace(made.head, directions=zeros(64, 32))),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(change: Any) -> None:
    made = int8_networks.made_up(Plan(8, 8, (Block(64),)))
    Program(made, 1)
    with pytest.raises(EngineUnavailableError):
        Program(change(made), 1)
