"""Configuration errors in words: which key, which value, why, and what to do."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from cxr_triage.model.errors import ConfigurationError

_PASSWORD_IN_URL: Final = re.compile(r"(://[^:/@\s]*:)\S*@")
_PASSWORD_PARAMETER: Final = re.compile(r"(password=)[^&\s'\"]*", re.IGNORECASE)
_SECRET_KEY: Final = re.compile(r"pass|secret|token", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """`text` with the passwords of URLs blotted out."""
    return _PASSWORD_PARAMETER.sub(r"\1***", _PASSWORD_IN_URL.sub(r"\1***@", text))


def keys(schema: type[BaseModel]) -> list[str]:
    """Every table and every `table.key` that `schema` knows."""
    known = []
    for name, field in schema.model_fields.items():
        known.append(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            known.extend(f"{name}.{key}" for key in field.annotation.model_fields)
    return known


def explain(error: ValidationError, schema: type[BaseModel], config: Path | None) -> str:
    """One clause per refused setting."""
    source = "environment" if config is None else f"{config} (or environment)"
    details = error.errors(include_url=False, include_context=False)
    return f"{source}: " + "; ".join(
        _clause(detail["loc"], detail["type"], detail["msg"], detail["input"], schema) for detail in details
    )


def refuse_unknown_variables(environment: Mapping[str, str], schema: type[BaseModel], prefix: str, *, but: str) -> None:
    """Refuse variables that start like ours and set nothing: pydantic-settings passes over them in silence.

    Raises:
        ConfigurationError: there is one; the message names it and the nearest one that exists.
    """
    known = {prefix + key.replace(".", "__").upper() for key in keys(schema)} | {but}
    for name in environment:
        if name.upper().startswith(prefix) and name.upper() not in known:
            raise ConfigurationError(
                f"environment: {name} sets nothing: {_nearest(name.upper(), sorted(known), prefix)}"
            )


def _clause(loc: tuple[int | str, ...], kind: str, reason: str, value: Any, schema: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in loc)
    reason = reason.removeprefix("Value error, ")
    if not key:
        return reason
    if kind == "extra_forbidden":
        return f"{key} = {_shown(key, value)} is no setting: {_nearest(key, keys(schema))}"
    if kind == "missing":
        return f"{key} is missing: add it"
    return f"{key} = {_shown(key, value)}: {reason}"


def _nearest(name: str, known: list[str], prefix: str = "") -> str:
    # What all have in common makes none of them near.
    matches = get_close_matches(name.removeprefix(prefix), [each.removeprefix(prefix) for each in known], n=1)
    if matches:
        return f"did you mean {prefix}{matches[0]}?"
    return "remove it, or see `cxr-triage config reference` for what there is"


def _shown(key: str, value: Any) -> str:
    return "***" if _SECRET_KEY.search(key) else without_secrets(repr(value))
