"""Messages in the user's language, through the standard library's gettext.

``N_`` marks a template where it is defined; ``translate`` looks it up where it is shown, so that one
error can be logged in English and shown in Chinese.
"""

from __future__ import annotations

import gettext
from functools import lru_cache
from pathlib import Path

DOMAIN = "kylin-gguf-engine"

# A checkout compiles its catalogues next to the package; an installed package uses the system's place.
_LOCALE_DIRS = (Path(__file__).parent / "locale", Path("/usr/share/locale"))


@lru_cache(maxsize=1)
def _catalogue() -> gettext.NullTranslations:
    for directory in _LOCALE_DIRS:
        if gettext.find(DOMAIN, str(directory)):
            return gettext.translation(DOMAIN, str(directory))
    return gettext.NullTranslations()


def N_(template: str) -> str:
    """Mark ``template`` for extraction without translating it here."""
    return template


def translate(template: str) -> str:
    """Return ``template`` in the language of ``LANGUAGE``/``LC_MESSAGES``/``LANG``, else unchanged."""
    return _catalogue().gettext(template) if template else ""
