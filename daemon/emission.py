"""The site's emission profiles: those that come with us, and those of its configuration."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from cxr_triage.daemon.results.meanings import MEANINGS
from cxr_triage.daemon.results.profiles import PROFILES, Form, Profile, ReportForm
from cxr_triage.daemon.setting_peers import EmissionProfile
from cxr_triage.daemon.setting_types import FormName
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.storage.result_records import PER_IMAGE, ObjectKind


def profiles_of(own: Iterable[EmissionProfile], resolve: Callable[[Path], Path]) -> Mapping[str, Profile]:
    """All profiles by name.

    Args:
        own: the site's tables.
        resolve: makes a path of the configuration absolute.
    """
    return {**PROFILES, **{each.name: _profile(each, resolve) for each in own}}


def require_fonts(profiles: Iterable[Profile]) -> None:
    """Open each font.

    Raises:
        ConfigurationError: one cannot be used; says which, and what to do.
    """
    from PIL import ImageFont  # noqa: PLC0415 - not every command draws

    for profile in profiles:
        try:
            if profile.font:
                ImageFont.truetype(profile.font)
        except OSError as error:
            raise ConfigurationError(
                f"profile {profile.name!r}: font = {profile.font!r} cannot be used ({error}): name a TrueType file "
                "that the service may read, or leave it out"
            ) from None


def _profile(own: EmissionProfile, resolve: Callable[[Path], Path]) -> Profile:
    like = PROFILES[own.like]
    return replace(
        like,
        name=own.name,
        objects=frozenset(ObjectKind(name) for name in own.objects) or like.objects,
        stand_ins=like.stand_ins if own.stand_ins is None else _stand_ins(own.stand_ins),
        descriptions={ObjectKind(name): words for name, words in own.series_descriptions.items()},
        numbers={ObjectKind(name): number for name, number in own.series_numbers.items()},
        colours={name: _rgb(colour) for name, colour in own.colours.items()},
        opacity=own.opacity,
        capture_pixels=own.capture_pixels,
        font=str(resolve(own.font)) if own.font else "",
        notice=own.notice,
        meanings={**MEANINGS[own.language], **own.meanings},
    )


def _stand_ins(named: Mapping[FormName, FormName]) -> Mapping[Form, Form]:
    return {_form(form): _form(instead) for form, instead in named.items()}


def _form(name: FormName) -> Form:
    return ObjectKind(name) if name in PER_IMAGE else ReportForm(name)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
