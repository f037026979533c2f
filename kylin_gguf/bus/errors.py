"""The table of D-Bus error names. A name is part of the API: it never changes once it is published."""

from __future__ import annotations

import logging

from kylin_gguf import errors
from kylin_gguf.bus.names import DAEMON, ERROR_PREFIX
from kylin_gguf.errors import KylinError

log = logging.getLogger(__name__)

_TABLE: dict[type[KylinError], str] = {
    errors.KylinError: "Failed",
    errors.InternalError: "Internal",
    errors.UsageError: "Usage.Failed",
    errors.UnknownOption: "Usage.UnknownOption",
    errors.InvalidValue: "Usage.InvalidValue",
    errors.ConfigError: "Usage.Config",
    errors.ModelError: "Model.Failed",
    errors.UnknownModel: "Model.Unknown",
    errors.ModelNotInstalled: "Model.NotInstalled",
    errors.FileMissing: "Model.FileMissing",
    errors.NotGguf: "Model.NotGguf",
    errors.TruncatedGguf: "Model.Truncated",
    errors.UnsupportedModel: "Model.Unsupported",
    errors.CatalogueInvalid: "Model.CatalogueInvalid",
    errors.ModelReadOnly: "Model.ReadOnly",
    errors.NotLocal: "Model.NotLocal",
    errors.StoreError: "Store.Failed",
    errors.NoSpace: "Store.NoSpace",
    errors.NotWritable: "Store.NotWritable",
    errors.ChecksumMismatch: "Store.Checksum",
    errors.SourceFailed: "Store.SourceFailed",
    errors.SourcesExhausted: "Store.SourcesExhausted",
    errors.UnknownKeptSession: "Store.UnknownSession",
    errors.KeptSessionsUnusable: "Store.SessionsUnusable",
    errors.UploadFailed: "Store.UploadFailed",
    errors.ConvertError: "Convert.Failed",
    errors.ConverterMissing: "Convert.Missing",
    errors.NotACheckpoint: "Convert.NotACheckpoint",
    errors.UnknownArchitecture: "Convert.UnknownArchitecture",
    errors.BadCheckpoint: "Convert.BadCheckpoint",
    errors.UnknownQuantisation: "Convert.UnknownQuantisation",
    errors.ToolFailed: "Convert.ToolFailed",
    errors.VerificationFailed: "Convert.VerificationFailed",
    errors.ExtraMissing: "Convert.ExtraMissing",
    errors.BadMatrix: "Convert.BadMatrix",
    errors.NativeError: "Native.Failed",
    errors.LibrariesMissing: "Native.Missing",
    errors.LibraryLoadFailed: "Native.LoadFailed",
    errors.DeviceMissing: "Native.DeviceMissing",
    errors.PluginMissing: "Native.PluginMissing",
    errors.EngineError: "Engine.Failed",
    errors.LoadFailed: "Engine.LoadFailed",
    errors.OutOfMemory: "Engine.OutOfMemory",
    errors.WorkerDied: "Engine.WorkerDied",
    errors.ContextFull: "Engine.ContextFull",
    errors.ConversationTooLong: "Engine.ConversationTooLong",
    errors.TextTooLong: "Engine.TextTooLong",
    errors.TemplateFailed: "Engine.Template",
    errors.InvalidGrammar: "Engine.Grammar",
    errors.DecodeFailed: "Engine.Decode",
    errors.Busy: "Engine.Busy",
    errors.WorkerHung: "Engine.WorkerHung",
    errors.RestartDelayed: "Engine.RestartDelayed",
    errors.RemoteUnreachable: "Engine.RemoteUnreachable",
    errors.RemoteFailed: "Engine.RemoteFailed",
    errors.ActuatorError: "Actuator.Failed",
    errors.CommandsInvalid: "Actuator.CatalogueInvalid",
    errors.ConfirmationNeeded: "Actuator.ConfirmationNeeded",
    errors.NothingToConfirm: "Actuator.NothingToConfirm",
    errors.ExecutorFailed: "Actuator.ExecutorFailed",
    errors.ExecutorTimeout: "Actuator.ExecutorTimeout",
    errors.UnknownCatalogue: "Actuator.UnknownCatalogue",
    errors.CatalogueLimit: "Actuator.CatalogueLimit",
    errors.BusError: "Bus.Failed",
    errors.ServiceUnavailable: "Bus.ServiceUnavailable",
    errors.AccessDenied: "Bus.AccessDenied",
    errors.UnknownObject: "Bus.UnknownObject",
    errors.PropertyReadOnly: f"{DAEMON}.Error.PropertyReadOnly",
    errors.FdPassingMissing: "Bus.NoFdPassing",
    errors.Cancelled: "Cancelled",
}

NAMES = {cls: name if name.startswith(DAEMON) else ERROR_PREFIX + name for cls, name in _TABLE.items()}
"""Every error class and its D-Bus name."""

_CLASSES = {name: cls for cls, name in NAMES.items()}

# What the bus daemon itself answers for a service that is not there, or went away during the call.
_UNAVAILABLE = (
    "ServiceUnknown",
    "NameHasNoOwner",
    "NoReply",
    "Disconnected",
    "TimedOut",
    "Timeout",
    "Spawn.",
)


def to_bus(error: BaseException) -> tuple[str, str]:
    """Return the D-Bus name and the text for ``error``; a defect is logged and gets a generic text."""
    if not isinstance(error, KylinError):
        log.error("defect while serving a call", exc_info=error)
        error = errors.InternalError(detail=type(error).__name__)
    return NAMES[type(error)], error.message()


def from_bus(name: str, text: str) -> KylinError:
    """Return the exception that ``to_bus`` made ``name`` of, with ``text`` but without its fields."""
    if name in _CLASSES:
        return _CLASSES[name].relayed(text)
    if name.startswith(tuple(f"{DAEMON}.Error.{end}" for end in _UNAVAILABLE)):
        return errors.ServiceUnavailable(text.rstrip("."))
    if name.startswith(ERROR_PREFIX):  # of a newer service than this client
        return errors.KylinError.relayed(text)
    return errors.InternalError(detail=f"{name}: {text}")
