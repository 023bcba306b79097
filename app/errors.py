"""Everything that this project raises on purpose.

    ServiceError
    ├── SettingsError                a setting that cannot be used
    ├── ModelError                   the model on disk, or what it computes
    │   ├── ModelNotFoundError
    │   ├── VersionNotFoundError
    │   ├── LabelNotFoundError
    │   ├── DeploymentError
    │   ├── ManifestError
    │   ├── DamagedVersionError
    │   ├── GraphError
    │   ├── GoldenError
    │   ├── PublishError
    │   ├── ShortageError
    │   └── EngineError
    │       ├── EngineUnavailableError
    │       │   └── EngineNotInstalledError
    │       └── LoadTimeoutError
    ├── PictureError                 bytes that do not become a picture
    │   ├── UnsupportedFormatError
    │   ├── PictureTooLargeError
    │   ├── PictureTooComplexError
    │   └── BrokenPictureError
    ├── UploadError                  a request that does not carry what it should
    │   ├── MissingFileError
    │   ├── EmptyFileError
    │   ├── SeveralFilesError
    │   ├── TooManyFilesError
    │   ├── ParameterError
    │   ├── MalformedBodyError
    │   ├── MediaTypeError
    │   ├── BodyTooLargeError
    │   ├── BodyTimeoutError
    │   ├── HeadersTooLargeError
    │   ├── HeadersTimeoutError
    │   └── MalformedRequestError
    ├── ProtocolError                a request that TensorFlow Serving or Open Inference Protocol refuses
    │   ├── UnknownModelError
    │   └── UnsupportedOperationError
    ├── ManagementError              a call that manages models
    │   ├── UnauthorizedError
    │   ├── ConflictError
    │   └── UnsoundVersionError
    ├── FeedbackError                feedback that cannot be taken
    │   ├── FeedbackOffError
    │   ├── UnknownPredictionError
    │   └── UnknownLabelError
    ├── WireError                    bytes that are no message of Protocol Buffers
    ├── FileError                    a file or folder that a command cannot use
    ├── UnavailableError             true now, perhaps not in a moment
    │   ├── NotReadyError
    │   ├── OverloadedError
    │   └── FeedbackStoreError
    └── DeadlineError                the answer would have come too late

Each class has a `code`, a word that stays the same for programs to compare. The message is for people: it
names the thing, the value received and what is allowed, and is safe to show to whoever sent the request. What
each means in HTTP is decided in `app.api.problems`.
"""

from typing import ClassVar, Final, Literal

# `time` is the caller's, `engine` one that has something else to do.
Overload = Literal["pictures", "requests", "bytes", "time", "explanations", "threads", "memory", "engine"]

# Exit codes of the service: an error of these ended it, or kept it from starting.
CANNOT_GO_ON: Final = 1
CANNOT_START: Final = 2


class ServiceError(Exception):
    """`limit` and `received` are numbers for programs where the message says that a limit was passed."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, limit: float | None = None, received: float | None = None) -> None:
        super().__init__(message)
        self.limit = limit
        self.received = received


class SettingsError(ServiceError):
    code = "invalid_setting"


class ModelError(ServiceError):
    code = "model_error"


class ModelNotFoundError(ModelError):
    code = "model_not_found"


class VersionNotFoundError(ModelError):
    code = "version_not_found"


class LabelNotFoundError(ModelError):
    code = "label_not_found"


class DeploymentError(ModelError):
    code = "invalid_deployment"


class ManifestError(ModelError):
    code = "invalid_manifest"


class DamagedVersionError(ModelError):
    code = "damaged_version"


class GraphError(ModelError):
    code = "invalid_graph"


class GoldenError(ModelError):
    code = "golden_mismatch"


class PublishError(ModelError):
    code = "publish_failed"


class ShortageError(ModelError):
    """It could not be loaded for want of something that there may be in a moment."""

    code = "shortage"


class EngineError(ModelError):
    code = "engine_failed"


class EngineUnavailableError(EngineError):
    """Not installed, not published with this version, or not for this processor: nothing is broken."""

    code = "engine_unavailable"


class EngineNotInstalledError(EngineUnavailableError):
    """A package of its is missing or broken."""

    code = "engine_not_installed"


class LoadTimeoutError(EngineError):
    """The thread that loads is left behind, and nobody knows what it holds."""

    code = "load_timeout"


class PictureError(ServiceError):
    code = "picture_error"


class UnsupportedFormatError(PictureError):
    code = "unsupported_format"


class PictureTooLargeError(PictureError):
    code = "image_too_large"


class PictureTooComplexError(PictureError):
    code = "image_too_complex"


class BrokenPictureError(PictureError):
    code = "invalid_image"


class UploadError(ServiceError):
    code = "invalid_request"


class MissingFileError(UploadError):
    code = "missing_file"


class EmptyFileError(UploadError):
    code = "empty_file"


class SeveralFilesError(UploadError):
    code = "several_files"


class TooManyFilesError(UploadError):
    code = "too_many_files"


class ParameterError(UploadError):
    code = "invalid_parameter"


class MalformedBodyError(UploadError):
    code = "malformed_body"


class MediaTypeError(UploadError):
    code = "unsupported_media_type"


class BodyTooLargeError(UploadError):
    code = "body_too_large"


class BodyTimeoutError(UploadError):
    code = "body_timeout"


class HeadersTooLargeError(UploadError):
    code = "headers_too_large"


class HeadersTimeoutError(UploadError):
    code = "headers_timeout"


class MalformedRequestError(UploadError):
    code = "malformed_request"


class ProtocolError(ServiceError):
    code = "protocol_error"


class UnknownModelError(ProtocolError):
    code = "unknown_model"


class UnsupportedOperationError(ProtocolError):
    code = "unsupported_operation"


class ManagementError(ServiceError):
    code = "management_error"


class UnauthorizedError(ManagementError):
    code = "unauthorized"


class ConflictError(ManagementError):
    """Not while things are as they are; the message says what has to be done first."""

    code = "conflict"


class UnsoundVersionError(ManagementError):
    code = "unsound_version"


class FeedbackError(ServiceError):
    code = "feedback_error"


class FeedbackOffError(FeedbackError):
    code = "feedback_off"


class UnknownPredictionError(FeedbackError):
    code = "unknown_prediction"


class UnknownLabelError(FeedbackError):
    code = "unknown_label"


class WireError(ServiceError):
    code = "malformed_message"


class FileError(ServiceError):
    code = "file_error"


class UnavailableError(ServiceError):
    """Worth another try after `retry_after_s` seconds."""

    code = "unavailable"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float = 1.0,
        limit: float | None = None,
        received: float | None = None,
    ) -> None:
        super().__init__(message, limit=limit, received=received)
        self.retry_after_s = retry_after_s


class NotReadyError(UnavailableError):
    code = "not_ready"


class OverloadedError(UnavailableError):
    """`reason` is a word for what there is too much of, or not enough."""

    code = "overloaded"

    def __init__(
        self,
        message: str,
        *,
        reason: Overload = "pictures",
        retry_after_s: float = 1.0,
        limit: float | None = None,
        received: float | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, limit=limit, received=received)
        self.reason: Overload = reason


class FeedbackStoreError(UnavailableError):
    code = "feedback_store_failed"


class DeadlineError(ServiceError):
    code = "deadline_exceeded"
