"""What differs between the receivers of our objects: one finding graph, written as a kind of viewer needs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from cxr_triage.model.findings import STRUCTURES, Code
from cxr_triage.storage.result_records import ObjectKind


class ReportForm(StrEnum):
    """The kind of document that an SR is."""

    #: Comprehensive 3D SR (PS3.3 A.35.13) with a Measurement Report (PS3.16 TID 1500).
    COMPREHENSIVE_3D = "comprehensive 3d"
    #: Comprehensive SR (PS3.3 A.35.3) with the same content.
    COMPREHENSIVE = "comprehensive"
    #: Basic Text SR (PS3.3 A.35.1): sentences, for what shows nothing else.
    BASIC_TEXT = "basic text"


#: What a destination may or may not take: each is a SOP Class of its own.
Form = ObjectKind | ReportForm
SOP_CLASSES: Final[Mapping[Form, UID]] = {
    ObjectKind.SEG: SegmentationStorage,
    ObjectKind.PR: GrayscaleSoftcopyPresentationStateStorage,
    ObjectKind.SC: SecondaryCaptureImageStorage,
    ReportForm.COMPREHENSIVE_3D: Comprehensive3DSRStorage,
    ReportForm.COMPREHENSIVE: ComprehensiveSRStorage,
    ReportForm.BASIC_TEXT: BasicTextSRStorage,
    ObjectKind.KO: KeyObjectSelectionDocumentStorage,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """An emission profile."""

    #: Our name for it; part of every UID that is derived for it.
    name: str
    #: What is made.
    objects: frozenset[ObjectKind]
    report: ReportForm = ReportForm.COMPREHENSIVE_3D
    #: Whether a SEG lies in a nominal plane, in a Frame of Reference of its own.
    nominal_plane: bool = False
    #: Whether every measurement group of the SR has a spatial coordinate: at least the box around lungs and heart.
    coordinates_everywhere: bool = False
    #: Whether probabilities are called by what they are of, and what stays below its threshold is told in sentences
    #: alone: for a viewer that shows of each group its numbers and their names, and those of all groups at once.
    numbers_named: bool = False
    #: Whether the image of a region is named Original Source (111040, DCM) instead of Source (260753009, SCT).
    original_source: bool = False
    #: What is sent instead to a destination that does not take a form, and made only then; nothing for one left out.
    stand_ins: Mapping[Form, Form] = field(default_factory=dict)
    #: The profile's name in `objects` of the ledger, where this is one of its stand-ins; empty: `name`.
    of: str = ""
    #: Series Description per kind; a kind that is left out has its own (`SERIES`).
    descriptions: dict[ObjectKind, str] = field(default_factory=dict)
    #: Series Number per kind; a kind that is left out has its own (`SERIES`).
    numbers: dict[ObjectKind, int] = field(default_factory=dict)
    #: Display colour per structure, sRGB 0-255; a structure that is left out has that of the vocabulary.
    colours: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    #: Of the structures' areas in a Secondary Capture, 0 (outlines alone) to 1.
    opacity: float = 0.15
    #: Longer side of a Secondary Capture, pixels; a smaller source is not enlarged.
    capture_pixels: int = 1536
    #: TrueType or OpenType file of the letters in a Secondary Capture; empty: Latin letters that come with Pillow.
    font: str = ""
    #: A first line of a site's own in what is drawn on the image; empty: none.
    notice: str = ""
    #: Code meanings in another language, by "SCHEME:VALUE"; what is left out stays English.
    meanings: dict[str, str] = field(default_factory=dict)

    @property
    def site_name(self) -> str:
        """What destinations name it by, also where this is one of its stand-ins."""
        return self.of or self.name

    def form(self, kind: ObjectKind) -> Form:
        """In which form it has objects of a kind."""
        return self.report if kind is ObjectKind.SR else kind

    def instead_of(self, form: Form, can_be: Callable[[Form], bool] = lambda _: True) -> Form | None:
        """What is sent instead of a form; None: nothing.

        Args:
            form: what is not taken.
            can_be: whether it can be made; else what is sent instead of that.
        """
        following = self.stand_ins.get(form)
        while following is not None and not can_be(following):
            following = self.stand_ins.get(following)
        return following

    def has(self, form: Form) -> bool:
        """Whether objects of this form are made anyhow."""
        return any(self.form(kind) is form for kind in self.objects)

    def as_stand_in(self, form: Form) -> "Profile":
        """The profile of this form alone: under UIDs of its own, and otherwise like this one."""
        kind = ObjectKind.SR if isinstance(form, ReportForm) else form
        return replace(
            self,
            name=f"{self.name}/{form.value}",
            of=self.name,
            objects=frozenset({kind}),
            report=form if isinstance(form, ReportForm) else self.report,
        )

    def series_description(self, kind: ObjectKind) -> str:
        """What a reader sees in the list of series."""
        return self.descriptions.get(kind, SERIES[kind].description)

    def series_number(self, kind: ObjectKind) -> int:
        """Where the series stands in that list."""
        return self.numbers.get(kind, SERIES[kind].number)

    def meaning(self, code: Code) -> str:
        """What a code means, in the profile's words."""
        return self.meanings.get(f"{code.scheme}:{code.value}", code.meaning)

    def in_words_of(self, can_say: Callable[[str], bool]) -> "Profile":
        """The profile without what cannot be said: such meanings and descriptions are English."""
        return replace(
            self,
            meanings={code: meaning for code, meaning in self.meanings.items() if can_say(meaning)},
            descriptions={kind: words for kind, words in self.descriptions.items() if can_say(words)},
            notice=self.notice if can_say(self.notice) else "",
        )

    def colour(self, structure: str) -> tuple[int, int, int]:
        """What a structure is drawn in, sRGB 0-255."""
        return self.colours.get(structure, _RGB[structure])


@dataclass(frozen=True, slots=True)
class Series:
    """The series that objects of one kind stand in."""

    number: int
    description: str


RESEARCH: Final = "research, not for diagnosis"
#: Of each kind, if a profile does not say otherwise. At most 64 characters (PS3.5 6.2, VR LO).
SERIES: Final = {
    ObjectKind.SEG: Series(9001, f"Lungs and heart (AI), {RESEARCH}"),
    ObjectKind.PR: Series(9003, f"Chest triage drawing (AI), {RESEARCH}"),
    ObjectKind.SC: Series(9004, f"Chest triage picture (AI), {RESEARCH}"),
    ObjectKind.SR: Series(9002, f"Chest triage (AI), {RESEARCH}"),
    ObjectKind.KO: Series(9005, f"Chest triage flag (AI), {RESEARCH}"),
    ObjectKind.NOTE: Series(9006, f"Rejection note (AI), {RESEARCH}"),
}
#: Of a report that takes an earlier one back, in every profile.
WITHDRAWN_SERIES: Final = f"Withdrawn result (AI), {RESEARCH}"
_RGB: Final = {structure.name: structure.rgb for structure in STRUCTURES}

#: Less of the same report, in what older systems take.
_SIMPLER: Final[Mapping[Form, Form]] = {
    ReportForm.COMPREHENSIVE_3D: ReportForm.COMPREHENSIVE,
    ReportForm.COMPREHENSIVE: ReportForm.BASIC_TEXT,
}
_SEG, _PR, _SC, _SR, _KO = ObjectKind.SEG, ObjectKind.PR, ObjectKind.SC, ObjectKind.SR, ObjectKind.KO
#: IHE AI Results, by the standard.
AIR: Final = Profile(name="air", objects=frozenset({_SEG, _SR}), stand_ins={_SEG: _PR, _PR: _SC, **_SIMPLER})
#: OHIF draws a SEG only in a plane, shows a blank page for a measurement group without a spatial coordinate, and does
#: not draw presentation states. Of a group it writes the numbers and their names beside its line, and nothing else.
OHIF: Final = Profile(
    name="ohif",
    objects=frozenset({_SEG, _SR}),
    nominal_plane=True,
    coordinates_everywhere=True,
    numbers_named=True,
    stand_ins={_SEG: _SC, **_SIMPLER},
)
#: Orthanc's Stone Web Viewer draws what stands in a Comprehensive SR, and pictures.
STONE: Final = Profile(
    name="stone",
    objects=frozenset({_SC, _SR}),
    report=ReportForm.COMPREHENSIVE,
    coordinates_everywhere=True,
    original_source=True,
    stand_ins=_SIMPLER,
)
#: Weasis draws segmentations and, best of all, presentation states.
WEASIS: Final = Profile(
    name="weasis", objects=frozenset({_SEG, _PR, _SR, _KO}), stand_ins={_SEG: _PR, _PR: _SC, **_SIMPLER}
)
#: What every PACS shows: a picture, and sentences. Nothing is simpler.
FLOOR: Final = Profile(name="floor", objects=frozenset({_SC, _SR}), report=ReportForm.BASIC_TEXT)

PROFILES: Final = {profile.name: profile for profile in (AIR, OHIF, STONE, WEASIS, FLOOR)}
