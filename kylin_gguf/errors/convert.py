"""Conversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kylin_gguf.errors.base import KylinError
from kylin_gguf.translation import N_


class ConvertError(KylinError):
    """A model that could not be converted. No output file is left."""

    code: ClassVar[str] = "convert"


@dataclass(eq=False)
class ConverterMissing(ConvertError):
    """The converter package is not installed beside the runtime."""

    code: ClassVar[str] = "convert.missing"
    sentence: ClassVar[str] = N_("The converter is not installed.")
    remedy: ClassVar[str] = N_("Install it with 'apt install kylin-gguf-convert'.")


@dataclass(eq=False)
class NotACheckpoint(ConvertError):
    """A source that is neither a Hugging Face folder nor a GGUF."""

    code: ClassVar[str] = "convert.not-a-checkpoint"
    sentence: ClassVar[str] = N_("{path} is not a model to convert: {reason}.")
    remedy: ClassVar[str] = N_("Give a folder with config.json and safetensors files, or a GGUF file.")
    path: str
    reason: str


@dataclass(eq=False)
class UnknownArchitecture(ConvertError):
    """A checkpoint of a family this converter does not read."""

    code: ClassVar[str] = "convert.unknown-architecture"
    sentence: ClassVar[str] = N_("The architecture '{architecture}' is not supported.")
    remedy: ClassVar[str] = N_("Supported: {known}.")
    architecture: str
    known: tuple[str, ...]


@dataclass(eq=False)
class BadCheckpoint(ConvertError):
    """A checkpoint whose files contradict each other or break their format."""

    code: ClassVar[str] = "convert.bad-checkpoint"
    sentence: ClassVar[str] = N_("{path}: {reason}.")
    remedy: ClassVar[str] = N_("Download the checkpoint again.")
    path: str
    reason: str


@dataclass(eq=False)
class UnknownQuantisation(ConvertError):
    """A quantisation name that the pinned llama.cpp does not have."""

    code: ClassVar[str] = "convert.unknown-quantisation"
    sentence: ClassVar[str] = N_("There is no quantisation '{name}'.")
    remedy: ClassVar[str] = N_("Similar: {near}.")
    name: str
    near: tuple[str, ...]


@dataclass(eq=False)
class ToolFailed(ConvertError):
    """One of llama.cpp's tools ended with an error; ``output`` is its last words."""

    code: ClassVar[str] = "convert.tool-failed"
    sentence: ClassVar[str] = N_("{tool} failed (status {status}): {output}.")
    remedy: ClassVar[str] = N_("The steps finished so far are kept; run the command again to resume.")
    tool: str
    status: int
    output: str


@dataclass(eq=False)
class VerificationFailed(ConvertError):
    """The finished file did not pass its own check and was not put in place."""

    code: ClassVar[str] = "convert.verification-failed"
    sentence: ClassVar[str] = N_("The converted file failed verification: {reason}.")
    remedy: ClassVar[str] = N_("Nothing was written to the output path.")
    reason: str


@dataclass(eq=False)
class ExtraMissing(ConvertError):
    """A feature that needs a Python package of one of the extras."""

    code: ClassVar[str] = "convert.extra-missing"
    sentence: ClassVar[str] = N_("{feature} needs {package}, which is not installed.")
    remedy: ClassVar[str] = N_("Install it with \"pip install 'kylin-gguf-engine[{extra}]'\".")
    feature: str
    package: str
    extra: str


@dataclass(eq=False)
class BadMatrix(ConvertError):
    """An importance matrix that is malformed, or of another model."""

    code: ClassVar[str] = "convert.bad-matrix"
    sentence: ClassVar[str] = N_("{path} is no importance matrix for this model: {reason}.")
    remedy: ClassVar[str] = N_("Leave --imatrix out, and one is measured.")
    path: str
    reason: str
