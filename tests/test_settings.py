import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.errors import SettingsError
from app.settings import PREFIX, Settings

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/configuration.md"


def rows() -> dict[str, str]:
    """Variable -> default, from the table in the documentation."""
    return dict(re.findall(rf"^\| `({PREFIX}\w+)` \| `([^`]*)` \|", DOCUMENT.read_text(), re.MULTILINE))


def test_every_setting_is_documented_with_its_default() -> None:
    assert rows() == {
        PREFIX + name.upper(): str(field.default) for name, field in Settings.model_fields.items()
    }


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFIER_PORT", "8123")
    monkeypatch.setenv("CLASSIFIER_MODEL_VERSION", "3")
    assert (Settings.load().port, Settings.load().model_version) == (8123, 3)


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFIER_PORT", "8123")
    assert Settings.load(port="8124").port == 8124


def test_a_misspelt_variable_stops_the_start_and_names_the_likely_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLASSIFIER_MODEL_ROOTS", "/srv/model")
    with pytest.raises(
        SettingsError, match=r"CLASSIFIER_MODEL_ROOTS .* did you mean CLASSIFIER_MODEL_ROOT\?"
    ):
        Settings.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "http"),
        ("model_version", "newest"),
        ("model_version", "0"),
        ("max_body_bytes", "0"),
        ("max_pixels", "200000000"),
        ("request_timeout_s", "-1"),
        ("request_timeout_s", "nan"),
        ("body_timeout_s", "inf"),
        ("drain_s", "nan"),
        ("log_level", "loud"),
    ],
)
def test_an_impossible_value_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + name.upper(), value)
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert f"{PREFIX}{name.upper()} cannot be {value!r}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_secret_that_is_too_short_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFIER_ADMIN_KEY", "Bielefeld")
    with pytest.raises(
        SettingsError, match="CLASSIFIER_ADMIN_KEY must have at least 16 characters"
    ) as refused:
        Settings.load()
    assert "Bielefeld" not in str(refused.value)


def test_both_things_that_a_version_may_be_are_named() -> None:
    with pytest.raises(SettingsError, match=r"'latest' or .*integer"):
        Settings.load(model_version="newest")


def test_settings_never_change_once_made() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]
