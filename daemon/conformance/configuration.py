"""Chapters 4.3 and 4.4: interfaces, addresses and parameters, from the settings' own declarations."""

from collections.abc import Sequence
from typing import Final

from cxr_triage.daemon.conformance.markdown import table, text
from cxr_triage.daemon.reference import setting_cells
from cxr_triage.daemon.setting_peers import (
    DeliverSettings,
    Destination,
    DicomSettings,
    Modality,
    RisSettings,
    UpsSubscriber,
)
from cxr_triage.daemon.setting_sections import WorklistSettings
from cxr_triage.daemon.setting_types import Section

_LOCAL: Final[Sequence[tuple[str, type[Section], Sequence[str]]]] = (
    ("dicom", DicomSettings, ("ae_title", "host", "port", "allowed_ae_titles", "require_called_ae_title")),
    ("worklist", WorklistSettings, ("enabled", "ups", "ae_title", "host", "port", "allowed_ae_titles")),
)
_REMOTE: Final[Sequence[tuple[str, type[Section], Sequence[str]]]] = (
    ("[[destination]]", Destination, tuple(Destination.model_fields)),
    ("[[modality]]", Modality, tuple(Modality.model_fields)),
    ("[[ups_subscriber]]", UpsSubscriber, tuple(UpsSubscriber.model_fields)),
    ("ris", RisSettings, ("host", "port", "ae_title", "calling_ae_title")),
)
_SECTIONS: Final[Sequence[tuple[str, type[Section]]]] = (
    ("dicom", DicomSettings),
    ("worklist", WorklistSettings),
    ("deliver", DeliverSettings),
    ("ris", RisSettings),
)
#: What the list does with findings is no parameter of a DICOM service, nor is how processes share work.
_NOT_DICOM: Final = frozenset({"receivers", "mode", "raise_to", "severity", "maximum_wait_hours", "lease_seconds"})


def configuration() -> str:
    """The chapters."""
    printed = {(name, key) for name, _, keys in (*_LOCAL, *_REMOTE) for key in keys}
    parameters = [
        (name, section, [key for key in section.model_fields if (name, key) not in printed and key not in _NOT_DICOM])
        for name, section in _SECTIONS
    ]
    return text(
        "configuration",
        local=_settings_table(_LOCAL),
        remote=_settings_table(_REMOTE),
        parameters=_settings_table(parameters),
    )


def _settings_table(sections: Sequence[tuple[str, type[Section], Sequence[str]]]) -> str:
    rows = [
        (f"`{name} {key}`" if name.startswith("[") else f"`{name}.{key}`", *setting_cells(section.model_fields[key]))
        for name, section, keys in sections
        for key in keys
    ]
    return table(("setting", "default", "meaning"), rows)
