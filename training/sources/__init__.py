"""The data sets that training knows: one file each, which is all that the next one takes.

Every module here that has a SOURCE is a data set; docs/how-to/add-a-data-set.md shows how to write one.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from cxr_triage.training.sources.published import Published
from cxr_triage.training.sources.source import Noise, Record, Source, UnknownSource

__all__ = ["Noise", "Published", "Record", "Source", "known_sources", "source_of"]


@cache
def known_sources() -> Mapping[str, Source]:
    """Every source that a file of this folder describes, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    found = [module.SOURCE for module in modules if hasattr(module, "SOURCE")]
    return {source.name: source for source in found}


def source_of(name: str) -> Source:
    """The source that a manifest's column `source` names; a name that no file describes gets outputs of its own."""
    unknown = UnknownSource(name=name, terms="Unknown: ask whoever published the data.", labels=())
    return known_sources().get(name, unknown)
