"""The settings as a page and as an example file, both made from their declarations."""

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from cxr_triage.daemon.setting_peers import Destination, EmissionProfile, Modality, UpsSubscriber
from cxr_triage.daemon.setting_types import Section
from cxr_triage.daemon.settings import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, Settings

#: The tables that may be repeated, and so are arrays in TOML, with what the example file says in place of defaults.
REPEATED: Final[Mapping[str, tuple[type[Section], Mapping[str, Any]]]] = {
    "destination": (Destination, {"name": "pacs", "ae_title": "PACS", "host": "pacs.example.org", "port": 104}),
    "profile": (EmissionProfile, {"name": "viewer"}),
    "ups_subscriber": (UpsSubscriber, {"ae_title": "READER1", "host": "reader1.example.org", "port": 104}),
    "modality": (Modality, {"ae_title": "XRAY1", "host": "xray1.example.org", "port": 104}),
}
_HEAD: Final = f"""\
# Settings

Made by `cxr-triage config reference`; do not edit.

Settings are read from the TOML file named by `--config` or `{CONFIG_VARIABLE}`, then from the environment, which wins:
`{ENVIRONMENT_PREFIX}DICOM__PORT=11112` sets `port` of the table `[dicom]`; lists and tables are written as JSON. What
is not a setting is refused. All are optional; `cxr-triage check` says what is wrong with them.
"""
_EXAMPLE_HEAD: Final = """\
# cxr-triage: every setting with its default. Research software, not a medical device.
"""


def reference_page() -> str:
    """The reference as Markdown."""
    parts = [_HEAD]
    for name, section in _sections():
        title = f"[[{name}]]" if name in REPEATED else f"[{name}]"
        rows = "\n".join(_row(key, field) for key, field in section.model_fields.items())
        text = f"## `{title}`\n\n{section.__doc__}\n\n| setting | default | meaning |\n| --- | --- | --- |\n{rows}\n"
        parts.append(text)
    return "\n".join(parts)


def example_configuration() -> str:
    """A TOML file that says the defaults; the tables that may be repeated are commented out."""
    parts = [_EXAMPLE_HEAD]
    for name, section in _sections():
        comment = f"# {section.__doc__}"
        if name in REPEATED:
            lines = [f"# [[{name}]]", *(f"# {line}" for line in _example_table(*REPEATED[name]))]
        else:
            lines = [f"[{name}]"]
            for key, field in section.model_fields.items():
                lines += [f"# {field.description}", _setting(key, _default(field))]
        parts.append("\n".join([comment, *lines]) + "\n")
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, type[Section]]]:
    for name, field in Settings.model_fields.items():
        if name in REPEATED:
            yield name, REPEATED[name][0]
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


def setting_cells(field: FieldInfo) -> tuple[str, str]:
    """A setting's default and meaning, as pages print them."""
    if field.is_required():
        default = "(required)"
    else:
        default = "(not set)" if _default(field) is None else f"`{_toml(_default(field))}`"
    return default, field.description or ""


def _row(key: str, field: FieldInfo) -> str:
    default, description = setting_cells(field)
    return f"| `{key}` | {default} | {description} |"


def _example_table(section: type[Section], example: Mapping[str, Any]) -> Iterator[str]:
    for key, field in section.model_fields.items():
        yield f"# {field.description}"
        yield _setting(key, example.get(key, field.default))


def _setting(key: str, value: Any) -> str:
    """TOML has no word for what is not set."""
    return f"# {key} =" if value is None else f"{key} = {_toml(value)}"


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _toml(value: Any) -> str:
    """TOML of the few kinds of values that settings have; its strings, numbers and arrays are also JSON's."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
