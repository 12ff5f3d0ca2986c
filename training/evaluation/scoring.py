"""The pass over the images: each is predicted once, by the same code that the service runs."""

from collections.abc import Callable, Iterable, Sequence

from cxr_triage.model.bundle import Card
from cxr_triage.model.measurements import cardiothoracic_ratio
from cxr_triage.model.prediction import Prediction
from cxr_triage.model.predictor import Predictor
from cxr_triage.model.radiograph import Radiograph, read_radiograph
from cxr_triage.model.suitability import check_radiograph
from cxr_triage.training.data import Sample, is_dicom, outlines_contradict, read_image, read_mask
from cxr_triage.training.evaluation.saliency import localise
from cxr_triage.training.evaluation.scored import Scored
from cxr_triage.training.evaluation.segmentation import FIELD_MM, overlaps
from cxr_triage.training.evaluation.zones import zones_of


def score(
    rows: Iterable[tuple[Sample, int]], predictors: Sequence[Predictor], progress: Callable[[], None] = lambda: None
) -> list[Scored]:
    """Predict each image with its bundle.

    The gate is off: every labelled image counts, and what the gate would refuse is noted.

    Args:
        rows: each sample with the place of its bundle in `predictors`.
        predictors: one, or one per fold.
        progress: called after each image.
    """
    seen = [_patients_seen(predictor.card) for predictor in predictors]
    scored = []
    for sample, index in rows:
        prediction = predictors[index].predict(radiograph_of(sample))
        scored.append(scored_of(sample, prediction, seen=sample.patient in seen[index]))
        progress()
    return scored


def scored_of(sample: Sample, prediction: Prediction, *, seen: bool) -> Scored:
    """What figures need of a prediction, wherever it was made.

    Args:
        sample: the truth.
        prediction: of the sample's image, its masks in the image's own pixels.
        seen: whether the patient took part in training or calibration.
    """
    truth = None if sample.mask is None else read_mask(sample.mask)
    return Scored(
        sample=sample,
        bundle=prediction.bundle,
        seen=seen,
        probabilities={finding.label: finding.probability for finding in prediction.findings},
        thresholds={finding.label: finding.threshold for finding in prediction.findings},
        abnormal=prediction.abnormal_probability,
        locations=prediction.locations,
        ctr=cardiothoracic_ratio(prediction.masks_CHW),
        true_ctr=sample.ctr if sample.ctr is not None or truth is None else cardiothoracic_ratio(truth),
        overlap={} if truth is None else overlaps(prediction.masks_CHW, truth, FIELD_MM.get(sample.source)),
        contradictory=truth is not None and outlines_contradict(truth),
        localisation=localise(prediction, sample.regions),
        zones=zones_of(prediction, sample.regions),
        refusal=check_radiograph(radiograph_of(sample)) or prediction.refusal,
    )


def radiograph_of(sample: Sample) -> Radiograph:
    """A sample as the service would see it after reading its DICOM file, which it may be."""
    if is_dicom(sample.image):
        return read_radiograph(sample.image)
    return Radiograph(
        pixels_HW=read_image(sample.image),
        spacing_mm=None,
        spacing_source=None,
        view=sample.view,
        body_part="CHEST",
        age_years=float(sample.age) if sample.age.isdecimal() else None,
        patient_orientation=None,
        sop_instance_uid=sample.id,
        sop_class_uid="",
    )


def has_truth(sample: Sample) -> bool:
    """Whether there is anything to compare a prediction with."""
    return bool(sample.labels) or sample.mask is not None or sample.ctr is not None or bool(sample.regions)


def _patients_seen(card: Card) -> frozenset[str]:
    return frozenset((*card.patients["train"], *card.patients["validation"]))
