"""Presentation states: they show the image as it was shown, and draw on it."""

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

import builders
import results
from cxr_triage.daemon.results.presentation_state import build_pr
from cxr_triage.daemon.results.profiles import WEASIS
from cxr_triage.model.grayscale import Window
from cxr_triage.storage.result_records import ObjectKind


def state(window: Window | None = None, **tags: Any) -> Dataset:
    """Give a presentation state as its reader finds it."""
    header = results.source(**tags)
    return results.written(build_pr(results.stored(header), header, window, profile=WEASIS))


def test_it_draws_on_the_image_that_it_names() -> None:
    """Every annotation names the image, which the relationship module lists (PS3.3 C.11.11)."""
    made = state()
    (series,) = made.ReferencedSeriesSequence
    (image,) = series.ReferencedImageSequence
    assert (series.SeriesInstanceUID, image.ReferencedSOPInstanceUID) == ("1.2.3.4.1", "1.2.3.4.1.1")
    for annotation in made.GraphicAnnotationSequence:
        (named,) = annotation.ReferencedImageSequence
        assert named.ReferencedSOPInstanceUID == image.ReferencedSOPInstanceUID


def test_each_structure_has_a_layer_in_its_colour() -> None:
    """So that a reader can switch it off; and each layer is drawn on."""
    made = state()
    layers = [layer.GraphicLayer for layer in made.GraphicLayerSequence]
    assert layers == ["LEFT_LUNG", "RIGHT_LUNG", "HEART", "MEASUREMENTS", "NOTES"]
    assert [annotation.GraphicLayer for annotation in made.GraphicAnnotationSequence] == layers
    colours = {tuple(layer.GraphicLayerRecommendedDisplayCIELabValue) for layer in made.GraphicLayerSequence}
    assert len(colours) == len(layers)


def test_lines_lie_within_the_image() -> None:
    """Counted from the upper left corner of the image to the lower right one (PS3.3 C.10.5.1.2)."""
    made = state(rows=37, columns=29)
    for annotation in made.GraphicAnnotationSequence:
        for line in annotation.get("GraphicObjectSequence", ()):
            points = np.array(line.GraphicData).reshape(-1, 2)
            assert len(points) == line.NumberOfGraphicPoints
            assert (points >= 0).all()
            assert (points <= [29, 37]).all()


def test_the_whole_image_is_displayed() -> None:
    """Pixels that are not square are shown as they are."""
    (area,) = state(rows=37, columns=29, ImagerPixelSpacing=None).DisplayedAreaSelectionSequence
    assert area.DisplayedAreaBottomRightHandCorner == [29, 37]
    assert area.PresentationPixelAspectRatio == [1, 1]
    (area,) = state(ImagerPixelSpacing=[0.2, 0.1]).DisplayedAreaSelectionSequence
    assert area.PresentationPixelSpacing == [0.2, 0.1]
    (area,) = state(ImagerPixelSpacing=None, PixelAspectRatio=[2, 1]).DisplayedAreaSelectionSequence
    assert area.PresentationPixelAspectRatio == [2, 1]


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 1800, "WindowWidth": 900},
        {"WindowCenter": 1800, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 900, "WindowWidth": 900, "RescaleSlope": 0.5, "RescaleIntercept": 10, "RescaleType": "US"},
        {"VOILUTSequence": [builders.lookup_table(range(0, 4096, 2), bits=12)]},
        {
            "WindowCenter": 1800,
            "WindowWidth": 900,
            "VOILUTSequence": [builders.lookup_table(range(0, 4096, 2), bits=12)],
        },
        {
            "ModalityLUTSequence": [builders.modality_lookup_table(range(4095, -1, -1))],
            "WindowCenter": 1800,
            "WindowWidth": 900,
        },
    ],
    ids=["window", "sigmoid", "rescale", "table", "table and window", "modality table"],
)
def test_the_image_looks_as_it_did(tags: dict[str, Any]) -> None:
    """In pydicom's hands the same grey comes out by the state's transformations as by the image's own."""
    header, made = results.source(**tags), state(**tags)
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    (voi,) = made.SoftcopyVOILUTSequence
    for each in (header, voi):  # what pydicom asks for besides the transformation
        each.BitsStored, each.PixelRepresentation, each.PhotometricInterpretation = 12, 0, "MONOCHROME2"
    voi.update({each.tag: each for each in made if each.keyword.startswith("Rescale")})  # its scale is of the result
    expected = apply_voi_lut(apply_modality_lut(pixels, header), header)
    found = apply_voi_lut(apply_modality_lut(pixels, made), voi)
    # Tables of twelve bits become some of sixteen: what counts is the share of white.
    assert np.abs(found / found.max() - expected / expected.max()).max() < 1e-3
    assert made.PresentationLUTShape == "IDENTITY"


def test_dark_and_bright_are_exchanged_once() -> None:
    """A presentation state is applied without regard to MONOCHROME1 (PS3.4 N.2.1.2): it has to say so itself."""
    assert state(PhotometricInterpretation="MONOCHROME1").PresentationLUTShape == "INVERSE"
    assert state(PresentationLUTShape="INVERSE").PresentationLUTShape == "INVERSE"
    both = state(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    assert both.PresentationLUTShape == "INVERSE"


def test_a_window_that_the_header_leaves_open_is_given() -> None:
    """Without one a viewer has to show the whole range, which many images hardly use."""
    (voi,) = state(Window(center=1000.5, width=401, function="LINEAR")).SoftcopyVOILUTSequence
    assert (voi.WindowCenter, voi.WindowWidth) == (1000.5, 401)
    assert "SoftcopyVOILUTSequence" not in state(None)


def test_raw_pixels_have_no_presentation_state() -> None:
    """They are not for display; the other objects are made all the same."""
    raw = results.source(PresentationIntentType="FOR PROCESSING", PixelIntensityRelationship="LIN")
    kinds = [built.kind for built in results.objects(raw, profile="weasis")]
    assert kinds == [ObjectKind.SEG, ObjectKind.SR, ObjectKind.KO]
