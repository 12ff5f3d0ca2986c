"""The IHE integration statement: which profiles and actors are claimed, and what is missing of them."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from cxr_triage.daemon.conformance.markdown import named, table, text
from cxr_triage.daemon.results.finishing import SOFTWARE_VERSION
from cxr_triage.daemon.results.objects import sop_class
from cxr_triage.daemon.results.profiles import PROFILES, Profile, ReportForm
from cxr_triage.storage.result_records import ObjectKind

#: IHE RAD TF-2: by which transaction an Evidence Creator stores each kind of object.
STORED_BY: Final[dict[str, tuple[ObjectKind, ...]]] = {
    "Creator Images Stored [RAD-18]": (ObjectKind.SEG, ObjectKind.SC),
    "Creator Presentation State Stored [RAD-19]": (ObjectKind.PR,),
    "Evidence Document Stored [RAD-43]": (ObjectKind.SR,),
    "Key Image Note Stored [RAD-29]": (ObjectKind.KO,),
    "Rejection Note Stored [RAD-66]": (ObjectKind.NOTE,),
}


class Primitive(NamedTuple):
    """A kind of result that AIR defines an encoding for."""

    name: str
    #: How we encode it; empty: we do not.
    encoding: str
    #: What an emission profile must make for it.
    needs: tuple[ObjectKind, ...]


#: Of AIR, in the order in which IHE's tests of Evidence Creators list them.
PRIMITIVES: Final = (
    Primitive(
        "Qualitative finding",
        "TID 1501 in a Comprehensive 3D SR (TID 1500): Present, or (not in `ohif`) a code of ours for below threshold",
        (ObjectKind.SR,),
    ),
    Primitive(
        "Measurement",
        "TID 300 in the same: probability, operating threshold (not in `ohif`), cardiothoracic ratio, areas, with UCUM "
        "units",
        (ObjectKind.SR,),
    ),
    Primitive("Location", "", ()),
    Primitive(
        "Region",
        "segments of a BINARY Segmentation (lungs and heart), which TID 1410 refers to; a closed line (SCOORD, TID "
        "1410) around findings whose map the bundle's card vouches for",
        (ObjectKind.SEG, ObjectKind.SR),
    ),
    Primitive("Parametric map", "", ()),
    Primitive(
        "Tracking identifier",
        "TID 4108 of every measurement group; the UID of a structure is the same in SEG, PR and SR",
        (ObjectKind.SR,),
    ),
    Primitive("Image reference", "Key Object Selection of the images with findings", (ObjectKind.KO,)),
)


def is_air(profile: Profile) -> bool:
    """Whether an emission profile writes its report as AIR asks: TID 1500 in a Comprehensive 3D SR."""
    return ObjectKind.SR in profile.objects and profile.report is ReportForm.COMPREHENSIVE_3D


def integration_statement() -> str:
    """Give it as Markdown."""
    return text(
        "ihe",
        version=SOFTWARE_VERSION,
        emission=_emission_table(),
        primitives=_primitives_table(),
        transactions=table(
            ("transaction", "objects", "emission profiles"),
            [(name, ", ".join(map(_what, kinds)), _profiles_with(kinds)) for name, kinds in STORED_BY.items()],
        ),
    )


def _emission_table() -> str:
    rows = [
        (f"`{profile.name}`", _objects(profile), "yes" if is_air(profile) else "no: its SR is no Comprehensive 3D SR")
        for profile in PROFILES.values()
    ]
    return table(("emission profile", "objects", "by AIR"), rows)


def _objects(profile: Profile) -> str:
    kinds = [kind for kind in ObjectKind if kind in profile.objects]
    return ", ".join(named(sop_class(kind, profile)).removesuffix(" Storage") for kind in kinds)


def _primitives_table() -> str:
    rows = [
        (each.name, each.encoding or "not there", _profiles_for(each) if each.encoding else "none")
        for each in PRIMITIVES
    ]
    return table(("primitive", "how we encode it", "emission profiles"), rows)


def _profiles_for(primitive: Primitive) -> str:
    needed = set(primitive.needs)
    return _listed([each for each in PROFILES.values() if is_air(each) and needed <= each.objects])


def _profiles_with(kinds: tuple[ObjectKind, ...]) -> str:
    """Notes are no matter of the profile, but of the destination."""
    if kinds == (ObjectKind.NOTE,):
        return f"{_listed(list(PROFILES.values()))}, where `rejection_notes = true`"
    return _listed([each for each in PROFILES.values() if each.objects & set(kinds)])


def _listed(profiles: Sequence[Profile]) -> str:
    return ", ".join(f"`{each.name}`" for each in profiles)


def _what(kind: ObjectKind) -> str:
    return kind.value
