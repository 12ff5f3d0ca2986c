"""One radiograph's prediction -> measurement groups (PS3.16 TID 1501; TID 1410 where there is a region or segment)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegmentationFrame,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SourceImageForSegmentation,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes

from cxr_triage.daemon.results.codes import (
    ARTIFICIAL_INTELLIGENCE,
    BELOW_THRESHOLD,
    OPERATING_THRESHOLD,
    ORIGINAL_SOURCE,
    PRESENT,
    PROBABILITY,
    concept,
)
from cxr_triage.daemon.results.finishing import MANUFACTURER
from cxr_triage.daemon.results.outlines import Points, longest_outline
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.daemon.results.regions import finding_sites, regions, zone_in_words
from cxr_triage.daemon.results.segmentation import segment_number
from cxr_triage.daemon.results.uids import finding_uid, segment_uid
from cxr_triage.model import findings as vocabulary
from cxr_triage.model.errors import ResultError
from cxr_triage.model.findings import MEASURED_STRUCTURE, MEASUREMENT_CODES, QUALIFIER_CODES, STRUCTURES, Structure
from cxr_triage.storage.image_records import StoredPrediction
from cxr_triage.storage.result_records import ObjectKind, ObjectReference

Group = MeasurementsAndQualitativeEvaluations | PlanarROIMeasurementsAndQualitativeEvaluations

#: NUM values are DS, at most 16 characters (PS3.5 6.2): no more digits than the numbers deserve.
DECIMALS: Final = 4
#: Characters of a code's meaning (PS3.5 6.2, LO).
LONGEST_MEANING: Final = 64
UNITS: Final = {"1": codes.UCUM.NoUnits, "mm2": codes.UCUM.SquareMillimeter}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedImage:
    """One image of a report, and the objects that show what was found on it."""

    #: 1, 2, ... within the report.
    number: int
    stored: StoredPrediction
    objects: Mapping[ObjectKind, ObjectReference]


def groups(image: ReportedImage, profile: Profile) -> Iterator[Group]:
    """Give all groups of one image: each finding, then each structure."""
    findings = [each for each in image.stored.prediction.findings if each.present or not profile.numbers_named]
    for finding, region in zip(findings, regions(image.stored, findings, profile), strict=True):
        yield _finding(image, finding, profile, region)
    for structure in STRUCTURES:
        yield from _structure(image, structure, profile)


@dataclass(frozen=True, slots=True)
class _Common:
    """What every kind of group says of itself."""

    image: ReportedImage
    profile: Profile
    name: str
    tracking_uid: str
    finding: CodedConcept | None
    sites: list[FindingSite] | None = None

    @property
    def tracking(self) -> TrackingIdentifier:
        """Viewers show the identifier and not the finding's code, so the name stands in it."""
        return TrackingIdentifier(uid=self.tracking_uid, identifier=f"{self.name}, image {self.image.number}")

    @property
    def algorithm(self) -> AlgorithmIdentification:
        """TID 4019."""
        bundle = self.image.stored.prediction.bundle
        return AlgorithmIdentification(
            name=bundle.name,
            version=bundle.version,
            parameters=[f"weights-sha256={bundle.sha256}"],
            family=ARTIFICIAL_INTELLIGENCE,
            manufacturer=MANUFACTURER,
        )


def _finding(image: ReportedImage, finding: vocabulary.Finding, profile: Profile, region: Points | None) -> Group:
    """The label, coded, with its probability and what that is compared with.

    Only what reaches its threshold stands under "Finding"; below it nothing is found, and nothing is denied either.
    """
    code = concept(finding.abnormality.code, profile)
    lies = f", {zone_in_words(finding.zone, profile)}" if finding.zone else ""
    common = _Common(
        image,
        profile,
        f"{finding.label} {finding.probability:.2f}{lies}",
        finding_uid(image.stored, finding.label),
        code if finding.present else None,
        finding_sites(finding.zone, profile),
    )
    evaluation = QualitativeEvaluation(name=code, value=PRESENT if finding.present else BELOW_THRESHOLD)
    return _group(common, list(_probability(finding, profile)), [evaluation], region)


def _probability(finding: vocabulary.Finding, profile: Profile) -> Iterator[Measurement]:
    """It, and what it is compared with; a viewer that has room for one line gets that, and the other in a sentence."""
    if profile.numbers_named:
        yield _number(_probability_of(finding, profile), finding.probability, "1")
    else:
        yield _number(PROBABILITY, finding.probability, "1")
        yield _number(OPERATING_THRESHOLD, finding.threshold, "1")


def _probability_of(finding: vocabulary.Finding, profile: Profile) -> CodedConcept:
    """The one concept for every probability, its meaning as precise as it may be long (PS3.5 6.2, LO)."""
    name = profile.meaning(finding.abnormality.code)
    zone = [f"{name} ({zone_in_words(finding.zone, profile)})"] if finding.zone else []
    meanings = [f"{said}, probability" for said in (*zone, name)]
    fitting = next((meaning for meaning in meanings if len(meaning) <= LONGEST_MEANING), PROBABILITY.meaning)
    return CodedConcept(PROBABILITY.value, PROBABILITY.scheme_designator, fitting)


def _structure(image: ReportedImage, structure: Structure, profile: Profile) -> Iterator[Group]:
    """A structure's measurements, by its segment; without a single pixel there is nothing to refer to."""
    mask_HW = image.stored.prediction.masks_CHW[STRUCTURES.index(structure)]
    numbers = [
        _measurement(measurement, structure, profile)
        for measurement in image.stored.prediction.measurements
        if MEASURED_STRUCTURE[measurement.name] == structure.name
    ]
    code = concept(structure.code, profile)
    common = _Common(image, profile, profile.meaning(structure.code), segment_uid(image.stored, structure), code)
    if profile.coordinates_everywhere and (numbers or mask_HW.any()):
        yield _group(common, numbers, [], longest_outline(mask_HW))
    elif mask_HW.any() and ObjectKind.SEG in image.objects:
        yield PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=common.tracking,
            referenced_segment=_segment(image, structure),
            finding_type=code,
            algorithm_id=common.algorithm,
            measurements=numbers,
        )
    elif numbers:
        yield _group(common, numbers, [], None)


def _group(
    common: _Common,
    numbers: Sequence[Measurement],
    evaluations: Sequence[QualitativeEvaluation],
    region: Points | None,
) -> Group:
    """A group about a whole image, or about what lies within a closed line on it."""
    stored = common.image.stored
    if region is None:
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=common.tracking,
            finding_type=common.finding,
            finding_sites=common.sites,
            algorithm_id=common.algorithm,
            measurements=numbers,
            qualitative_evaluations=evaluations,
            source_images=[SourceImageForMeasurementGroup(stored.sop_class_uid, stored.sop_instance_uid)],
        )
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=common.tracking,
        referenced_region=ImageRegion(
            graphic_type=GraphicTypeValues.POLYLINE,
            graphic_data=region,
            source_image=_source(common),
        ),
        finding_type=common.finding,
        finding_sites=common.sites,
        algorithm_id=common.algorithm,
        measurements=numbers,
        qualitative_evaluations=evaluations,
        geometric_purpose=codes.cid219.BoundedBy,
    )


def _source(common: _Common) -> SourceImageForRegion:
    stored = common.image.stored
    source = SourceImageForRegion(stored.sop_class_uid, stored.sop_instance_uid)
    if common.profile.original_source:
        source.ConceptNameCodeSequence = [ORIGINAL_SOURCE]
    return source


def _segment(image: ReportedImage, structure: Structure) -> ReferencedSegmentationFrame:
    number, seg = segment_number(structure), image.objects[ObjectKind.SEG]
    return ReferencedSegmentationFrame(
        sop_class_uid=seg.sop_class_uid,
        sop_instance_uid=seg.sop_instance_uid,
        frame_number=number,
        segment_number=number,
        source_image=SourceImageForSegmentation(image.stored.sop_class_uid, image.stored.sop_instance_uid),
    )


def _measurement(measurement: vocabulary.Measurement, structure: Structure, profile: Profile) -> Measurement:
    if measurement.qualifier and measurement.qualifier not in QUALIFIER_CODES:
        raise ResultError(f"The qualifier of {measurement.name} has no code: add it to QUALIFIER_CODES.")
    qualifier = QUALIFIER_CODES.get(measurement.qualifier)
    return _number(
        concept(MEASUREMENT_CODES[measurement.name], profile),
        measurement.value,
        measurement.unit,
        method=concept(qualifier, profile) if qualifier else None,
        site=concept(structure.code, profile),
    )


def _number(
    name: CodedConcept, value: float, unit: str, *, method: CodedConcept | None = None, site: CodedConcept | None = None
) -> Measurement:
    return Measurement(
        name=name,
        value=round(float(value), DECIMALS),
        unit=UNITS[unit],
        method=method,
        finding_sites=[FindingSite(site)] if site else None,
    )
