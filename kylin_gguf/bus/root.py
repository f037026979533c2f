"""What the parts of the root object have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kylin_gguf.bus import names
from kylin_gguf.bus.registry import Published, Registry

if TYPE_CHECKING:
    from kylin_gguf.service import Service


class RootPart(Published):
    """Methods of the object that everyone may call."""

    def __init__(self, registry: Registry, service: Service) -> None:
        super().__init__(registry, names.ROOT)
        self._service = service
