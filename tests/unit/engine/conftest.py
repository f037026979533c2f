"""The engine's modules import the bindings, which need the native libraries loaded first."""

from kylin_gguf import config, native

native.load(config.load())
