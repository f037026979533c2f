"""The one exception tree. Each class has a stable code, typed fields, a sentence and a remedy.

Front ends never match on text: D-Bus names and exit codes come from tables over these classes
(``bus/errors.py``, ``cli/errors.py``), and a test fails when a class is missing from one.
Templates are English sources for gettext; fields are filled in after translation.
"""

from __future__ import annotations

from kylin_gguf.errors.actuator import (
    ActuatorError,
    CatalogueLimit,
    CommandsInvalid,
    ConfirmationNeeded,
    ExecutorFailed,
    ExecutorTimeout,
    NothingToConfirm,
    UnknownCatalogue,
)
from kylin_gguf.errors.base import (
    Cancelled,
    InternalError,
    KylinError,
    all_errors,
    from_wire,
    of_code,
)
from kylin_gguf.errors.bus import (
    AccessDenied,
    BusError,
    FdPassingMissing,
    PropertyReadOnly,
    ServiceUnavailable,
    UnknownObject,
)
from kylin_gguf.errors.convert import (
    BadCheckpoint,
    ConverterMissing,
    ConvertError,
    NotACheckpoint,
    ToolFailed,
    UnknownArchitecture,
    UnknownQuantisation,
    VerificationFailed,
)
from kylin_gguf.errors.engine import (
    Busy,
    ContextFull,
    DecodeFailed,
    EngineError,
    InvalidGrammar,
    LibrariesMissing,
    LibraryLoadFailed,
    LoadFailed,
    NativeError,
    RestartDelayed,
    TemplateFailed,
    TextTooLong,
    WorkerDied,
    WorkerHung,
)
from kylin_gguf.errors.likeness import (
    near,
)
from kylin_gguf.errors.model import (
    CatalogueInvalid,
    FileMissing,
    ModelError,
    ModelNotInstalled,
    ModelReadOnly,
    NotGguf,
    TruncatedGguf,
    UnknownModel,
    UnsupportedModel,
)
from kylin_gguf.errors.store import (
    ChecksumMismatch,
    NoSpace,
    NotWritable,
    SourceFailed,
    SourcesExhausted,
    StoreError,
)
from kylin_gguf.errors.usage import (
    ConfigError,
    InvalidValue,
    UnknownOption,
    UsageError,
)

__all__ = [
    "AccessDenied",
    "ActuatorError",
    "BadCheckpoint",
    "BusError",
    "Busy",
    "Cancelled",
    "CatalogueInvalid",
    "CatalogueLimit",
    "ChecksumMismatch",
    "CommandsInvalid",
    "ConfigError",
    "ConfirmationNeeded",
    "ContextFull",
    "ConvertError",
    "ConverterMissing",
    "DecodeFailed",
    "EngineError",
    "ExecutorFailed",
    "ExecutorTimeout",
    "FdPassingMissing",
    "FileMissing",
    "InternalError",
    "InvalidGrammar",
    "InvalidValue",
    "KylinError",
    "LibrariesMissing",
    "LibraryLoadFailed",
    "LoadFailed",
    "ModelError",
    "ModelNotInstalled",
    "ModelReadOnly",
    "NativeError",
    "NoSpace",
    "NotACheckpoint",
    "NotGguf",
    "NotWritable",
    "NothingToConfirm",
    "PropertyReadOnly",
    "RestartDelayed",
    "ServiceUnavailable",
    "SourceFailed",
    "SourcesExhausted",
    "StoreError",
    "TemplateFailed",
    "TextTooLong",
    "ToolFailed",
    "TruncatedGguf",
    "UnknownArchitecture",
    "UnknownCatalogue",
    "UnknownModel",
    "UnknownObject",
    "UnknownOption",
    "UnknownQuantisation",
    "UnsupportedModel",
    "UsageError",
    "VerificationFailed",
    "WorkerDied",
    "WorkerHung",
    "all_errors",
    "from_wire",
    "near",
    "of_code",
]
