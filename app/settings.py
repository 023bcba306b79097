"""Everything that can be set, once, when the service starts; docs/configuration.md explains each row."""

import difflib
import os
from argparse import SUPPRESS
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import SettingsError

PREFIX: Final = "CLASSIFIER_"
ALL_MODELS: Final = "all"
SECRETS: Final = frozenset({"admin_key"})
MODELS_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,99}(, *[a-z0-9][a-z0-9._-]{0,99})*$"
POLICY_PATTERN: Final = r"^(latest(:[1-9][0-9]{0,3})?|all|[1-9][0-9]{0,17}(,[1-9][0-9]{0,17})*)$"

Threads = Annotated[int, Field(ge=0, le=1024)]


class Settings(BaseSettings):
    """Each field is read from the environment as `CLASSIFIER_<FIELD>` unless it is passed in."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

    host: Annotated[str, Field(min_length=1, description="address to listen on; 0.0.0.0 for every one")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Field(ge=0, le=65535, description="TCP port to listen on; 0 for a free one")] = 8000
    grpc_port: Annotated[
        int,
        Field(ge=0, le=65535, description="TCP port for Open Inference Protocol over gRPC; 0 for none"),
    ] = 0
    workers: Annotated[int, Field(ge=1, le=256, description="processes that serve; each loads the model")] = 1
    log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug"],
        Field(description="least severe lines that are logged"),
    ] = "info"

    log_format: Annotated[
        Literal["text", "json"], Field(description="words for a terminal, or a JSON object per line")
    ] = "text"

    model_root: Annotated[Path, Field(description="folder that holds the models")] = Path("model")
    model_name: Annotated[str, Field(description="name of the model")] = "resnet18-cifar10"
    model_version: Annotated[
        Literal["latest"] | PositiveInt, Field(description="version of the model, a number or latest")
    ] = "latest"

    models: Annotated[
        str | None,
        Field(
            pattern=MODELS_PATTERN, description="other models served beside it, separated by commas, or all"
        ),
    ] = None
    version_policy: Annotated[
        str,
        Field(
            pattern=POLICY_PATTERN,
            description="versions in memory: latest, latest:2 for the two newest, all, or numbers as 1,3",
        ),
    ] = "latest"
    model_poll_s: Annotated[
        float, Field(ge=0, description="time between looks for new versions; 0 for none")
    ] = 5.0
    admin_key: Annotated[
        SecretStr | None, Field(min_length=16, description="what calls that manage models must show")
    ] = None

    shadow_version: Annotated[
        PositiveInt | None, Field(description="version that looks at what the live one answered")
    ] = None
    shadow_share: Annotated[
        float, Field(gt=0, le=1, description="share of pictures that the shadow looks at")
    ] = 0.1

    coverage: Annotated[
        float, Field(gt=0, lt=1, description="share of confidence sets that hold the truth")
    ] = 0.95

    engine: Annotated[str, Field(description="what runs the model")] = "auto"
    engine_threads: Annotated[Threads, Field(description="cores for the engine; 0 for all")] = 0
    engine_streams: Annotated[
        Threads, Field(description="batches that the engine computes at once; 0 for one per core")
    ] = 0
    max_batch_pictures: Annotated[
        PositiveInt, Field(description="pictures that the engine takes at once, at most")
    ] = 64
    decode_threads: Annotated[
        Threads, Field(description="threads that decode pictures; 0 for one per core")
    ] = 0

    max_connections: Annotated[
        PositiveInt, Field(description="connections over HTTP that may be open at once")
    ] = 4096
    max_header_bytes: Annotated[
        PositiveInt, Field(description="address and headers of a request, at most")
    ] = 32 * 1024
    max_headers: Annotated[PositiveInt, Field(description="headers of a request, at most")] = 100
    header_timeout_s: Annotated[
        PositiveFloat, Field(description="time for address and headers to arrive")
    ] = 10.0
    keep_alive_s: Annotated[
        PositiveFloat, Field(description="time that a connection may wait for its next request")
    ] = 75.0
    max_body_bytes: Annotated[
        PositiveInt, Field(description="longest request body, or file with a picture")
    ] = 20 * 1024 * 1024
    max_upload_files: Annotated[
        PositiveInt, Field(description="files in one request with several pictures")
    ] = 100
    max_upload_bytes: Annotated[
        PositiveInt, Field(description="longest body of a request with several pictures")
    ] = 100 * 1024 * 1024
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970, description="pixels of a picture, at most")] = (
        50_000_000
    )
    max_side_pixels: Annotated[PositiveInt, Field(description="width or height of a picture, at most")] = (
        20_000
    )
    max_jpeg_scans: Annotated[PositiveInt, Field(description="scans of a progressive JPEG, at most")] = 100

    accept_tiff: Annotated[bool, Field(description="whether TIFF is decoded")] = False

    queue_pictures: Annotated[
        PositiveInt, Field(description="pictures waiting for a decoder or the engine")
    ] = 256
    queue_bytes: Annotated[PositiveInt, Field(description="encoded bytes waiting for a decoder")] = (
        256 * 1024 * 1024
    )
    max_requests_in_flight: Annotated[
        PositiveInt, Field(description="requests to classify that are received or answered at once")
    ] = 512
    received_bytes: Annotated[
        PositiveInt, Field(description="bytes of bodies that are received or answered at once")
    ] = 512 * 1024 * 1024
    queue_explanations: Annotated[
        PositiveInt, Field(description="explanations that are worked on or wait")
    ] = 16
    feedback_file: Annotated[
        Path | None, Field(description="where predictions and feedback on them are kept; none without it")
    ] = None
    feedback_hours: Annotated[
        PositiveFloat, Field(description="how long feedback on a prediction is taken")
    ] = 168.0
    feedback_predictions: Annotated[
        PositiveInt, Field(description="predictions that feedback is taken on, at most")
    ] = 100_000

    request_timeout_s: Annotated[
        PositiveFloat, Field(description="time for an answer once the body is read")
    ] = 30.0
    body_timeout_s: Annotated[PositiveFloat, Field(description="time for the body to arrive")] = 30.0
    engine_stall_s: Annotated[
        PositiveFloat, Field(description="time at one batch after which an engine counts as hung")
    ] = 30.0
    load_timeout_s: Annotated[
        PositiveFloat, Field(description="time for a version to be loaded, proven and warm")
    ] = 300.0
    drain_s: Annotated[float, Field(ge=0, description="time that requests are still taken after SIGTERM")] = (
        5.0
    )
    shutdown_timeout_s: Annotated[
        PositiveInt, Field(description="time for open requests to end after that")
    ] = 15

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Settings from the environment, with `given` ones taking precedence.

        Raises:
            SettingsError: a value cannot be used, or a variable with our prefix names no setting.
        """
        _refuse_misspelt(os.environ, list(cls.model_fields))
        try:
            return cls(**given)
        except ValidationError as error:
            raise SettingsError(_complaint(error)) from error


def add_options(add_argument: Callable[..., object], names: Iterable[str]) -> None:
    """Gives a command an option for each of these settings, secrets left out; it parses to those given."""
    for name in names:
        if name in SECRETS:
            continue  # every user of a machine can read the command lines on it
        field = Settings.model_fields[name]
        add_argument(
            "--" + name.replace("_", "-"),
            metavar="X",
            default=SUPPRESS,
            help=f"{field.description} (default: {field.default})",
        )


def _complaint(error: ValidationError) -> str:
    wrong = error.errors(include_url=False)
    name, value = wrong[0]["loc"][0], str(wrong[0]["input"])[:100]
    if name in SECRETS:
        return (  # without the secret
            f"The setting {PREFIX}{str(name).upper()} must have at least {wrong[0]['ctx']['min_length']} "
            "characters. Make one, for instance, with: openssl rand -hex 32"
        )
    reasons = " or ".join(one["msg"] for one in wrong if one["loc"][0] == name)
    return (
        f"The setting {PREFIX}{str(name).upper()} cannot be {value!r}: {reasons}. See docs/configuration.md."
    )


def _refuse_misspelt(environment: Mapping[str, str], fields: list[str]) -> None:
    known = {PREFIX + field.upper() for field in fields}
    for name in environment:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {close[0]}?" if close else "docs/configuration.md lists those that do."
            raise SettingsError(f"The variable {name} names no setting; {hint}")
