"""The table of exit codes. Scripts depend on them: a code never changes once it is released.

1 is any failure without a code of its own, 2 a wrong command line (as typer has it), 70 a defect
(EX_SOFTWARE of sysexits.h), 130 an interruption (128 + SIGINT). Each family has a block of ten; the first
of a block is the family itself.
"""

from __future__ import annotations

from kylin_gguf import errors
from kylin_gguf.errors import KylinError

EXIT_CODES: dict[type[KylinError], int] = {
    errors.KylinError: 1,
    errors.UsageError: 2,
    errors.UnknownOption: 2,
    errors.InvalidValue: 2,
    errors.ConfigError: 3,
    errors.ModelError: 10,
    errors.UnknownModel: 11,
    errors.ModelNotInstalled: 12,
    errors.FileMissing: 13,
    errors.NotGguf: 14,
    errors.TruncatedGguf: 15,
    errors.UnsupportedModel: 16,
    errors.CatalogueInvalid: 17,
    errors.ModelReadOnly: 18,
    errors.NotLocal: 19,
    errors.StoreError: 20,
    errors.NoSpace: 21,
    errors.ChecksumMismatch: 22,
    errors.SourceFailed: 23,
    errors.SourcesExhausted: 24,
    errors.NotWritable: 25,
    errors.UploadFailed: 26,
    errors.UnknownKeptSession: 28,
    errors.KeptSessionsUnusable: 29,
    errors.ConvertError: 30,
    errors.ConverterMissing: 31,
    errors.NotACheckpoint: 32,
    errors.UnknownArchitecture: 33,
    errors.BadCheckpoint: 34,
    errors.UnknownQuantisation: 35,
    errors.ToolFailed: 36,
    errors.VerificationFailed: 37,
    errors.ExtraMissing: 38,
    errors.BadMatrix: 39,
    errors.NativeError: 40,
    errors.LibrariesMissing: 41,
    errors.LibraryLoadFailed: 42,
    errors.DeviceMissing: 43,
    errors.PluginMissing: 44,
    errors.EngineError: 50,
    errors.LoadFailed: 51,
    errors.OutOfMemory: 48,
    errors.WorkerDied: 52,
    errors.ContextFull: 53,
    errors.TemplateFailed: 54,
    errors.InvalidGrammar: 55,
    errors.DecodeFailed: 56,
    errors.Busy: 57,
    errors.WorkerHung: 58,
    errors.RestartDelayed: 59,
    errors.TextTooLong: 49,
    errors.ConversationTooLong: 47,
    errors.RemoteUnreachable: 46,
    errors.RemoteFailed: 45,
    errors.ActuatorError: 60,
    errors.CommandsInvalid: 61,
    errors.ConfirmationNeeded: 62,
    errors.NothingToConfirm: 63,
    errors.ExecutorFailed: 64,
    errors.ExecutorTimeout: 65,
    errors.UnknownCatalogue: 66,
    errors.CatalogueLimit: 67,
    errors.InternalError: 70,
    errors.BusError: 80,
    errors.ServiceUnavailable: 81,
    errors.AccessDenied: 82,
    errors.UnknownObject: 83,
    errors.PropertyReadOnly: 84,
    errors.FdPassingMissing: 85,
    errors.Cancelled: 130,
}


def exit_code(error: KylinError) -> int:
    """Return the status that the program ends with for ``error``."""
    return EXIT_CODES[type(error)]
