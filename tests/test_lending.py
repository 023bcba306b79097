import pytest

from app.engines.lending import Lending, concurrency
from app.errors import EngineError


@pytest.mark.parametrize(
    ("cores", "streams", "expected"), [(1, 0, 1), (4, 0, 4), (12, 0, 8), (4, 2, 2), (2, 9, 2)]
)
def test_a_core_computes_a_batch_up_to_eight_unless_fewer_are_wanted(
    cores: int, streams: int, expected: int
) -> None:
    assert concurrency(cores, streams) == expected


def test_a_lone_picture_has_all_cores_if_nobody_else_is_at_work() -> None:
    lending = Lending("alone", ["beside", "beside"])
    with lending.lent(1) as first:
        assert first == "alone"
        with lending.lent(1) as second:
            assert second == "beside"
    with lending.lent(2) as batch:
        assert batch == "beside"
    with pytest.raises(ZeroDivisionError), lending.lent(1):
        _ = 1 / 0
    with lending.lent(1) as again:
        assert again == "alone"


def test_what_is_closed_is_let_go_once_and_not_while_somebody_computes() -> None:
    released: list[str] = []
    lending = Lending("alone", ["beside"], lambda: released.append("all"))
    with lending.lent(8):
        lending.close()
        assert released == []
        with pytest.raises(EngineError, match="was closed"), lending.lent(1):
            pass
    assert released == ["all"]
    lending.close()
    assert released == ["all"]
