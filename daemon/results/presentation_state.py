"""The drawing of one radiograph -> Grayscale Softcopy Presentation State (PS3.3 A.33.1)."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from highdicom.color import CIELabColor
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    TextJustificationValues,
    TextObject,
)
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import VR

from cxr_triage.daemon.results.drawing import NOTES, Drawing, Label, Layer, Line, drawing_of
from cxr_triage.daemon.results.finishing import (
    CHEST,
    equipment,
    finish,
    image_object_uid,
    image_series_description,
    source_stand_in,
)
from cxr_triage.daemon.results.patient import copy_elements
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.model.grayscale import LookupTable, Window, is_shown_inverted, lookup_table
from cxr_triage.model.header import items, numbers, shown_spacing, sides
from cxr_triage.storage.image_records import StoredPrediction
from cxr_triage.storage.result_records import ObjectKind

#: What the grayscale pipeline of a source consists of (PS3.3 C.11.1, C.11.2): copied, so that it looks as it did.
MODALITY_LUT: Final = ("ModalityLUTSequence", "RescaleIntercept", "RescaleSlope", "RescaleType")
VOI_LUT: Final = ("VOILUTSequence",)
WINDOW: Final = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
#: All of a source's header that says how it is displayed.
GRAYSCALE: Final = (*MODALITY_LUT, *VOI_LUT, *WINDOW, "PhotometricInterpretation", "PresentationLUTShape")
#: Box of the notes, as shares of the displayed area: a corner in which chests have an arm.
NOTES_BOX: Final = (0.01, 0.01, 0.6, 0.2)
#: Largest entry of 16 bits.
WHITE: Final = 2**16 - 1
#: Most characters of one text: VR ST (PS3.5 6.2).
MAXIMUM_TEXT: Final = 1024


def build_pr(
    stored: StoredPrediction, source: Dataset, window: Window | None, *, profile: Profile
) -> GrayscaleSoftcopyPresentationState:
    """Build the presentation state of one image.

    Args:
        stored: the prediction; its masks are in the source's pixel matrix.
        source: the source's header, without pixels.
        window: what the source is shown with if its header does not say.
        profile: whom for.
    """
    drawing, image = drawing_of(stored, profile), _stand_in(stored)
    layers = {layer.name: _layer(layer, order) for order, layer in enumerate(drawing.layers, start=1)}
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[image],
        series_instance_uid=image_object_uid(ObjectKind.PR, stored, profile, "series"),
        series_number=profile.series_number(ObjectKind.PR),
        sop_instance_uid=image_object_uid(ObjectKind.PR, stored, profile),
        instance_number=1,
        content_label="CXR_TRIAGE",
        content_description=image_series_description(ObjectKind.PR, stored, profile),
        series_description=image_series_description(ObjectKind.PR, stored, profile),
        graphic_layers=list(layers.values()),
        graphic_annotations=list(_annotations(drawing, layers, image)),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(stored.prediction.bundle),
    )
    state.BodyPartExamined = CHEST
    _show_all(state, source)
    _show_as(state, source, window)
    finish(state, source=source, moment=stored.received_at)
    return state


def _stand_in(stored: StoredPrediction) -> Dataset:
    dataset = source_stand_in(stored)
    dataset.SamplesPerPixel = 1
    return dataset


def _layer(layer: Layer, order: int) -> GraphicLayer:
    return GraphicLayer(layer_name=layer.name, order=order, display_color=CIELabColor.from_rgb(*layer.rgb))


def _annotations(drawing: Drawing, layers: dict[str, GraphicLayer], image: Dataset) -> Iterator[GraphicAnnotation]:
    """One per layer."""
    for name, layer in layers.items():
        lines = [_graphic(line) for line in drawing.lines if line.layer.name == name]
        labels = [_text(label) for label in drawing.labels if label.layer.name == name]
        notes = [_corner(drawing.notes)] if name == NOTES.name else []
        yield GraphicAnnotation(
            referenced_images=[image],
            graphic_layer=layer,
            graphic_objects=lines or None,
            text_objects=[*labels, *notes] or None,
        )


def _graphic(line: Line) -> GraphicObject:
    return GraphicObject(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=line.points_N2,
        units=AnnotationUnitsValues.PIXEL,
        tracking_id=line.name,
        tracking_uid=line.tracking_uid,
    )


def _text(label: Label) -> TextObject:
    return TextObject(
        text_value=label.text,
        units=AnnotationUnitsValues.PIXEL,
        anchor_point=label.place,
        anchor_point_visible=False,
    )


def _corner(notes: tuple[str, ...]) -> TextObject:
    return TextObject(
        text_value="\r\n".join(notes)[:MAXIMUM_TEXT],
        units=AnnotationUnitsValues.DISPLAY,
        bounding_box=NOTES_BOX,
        text_justification=TextJustificationValues.LEFT,
    )


def _show_all(state: Dataset, source: Dataset) -> None:
    """The whole image, as large as it fits, its pixels as square or not as they are (PS3.3 C.10.4)."""
    area = state.DisplayedAreaSelectionSequence[0]
    area.pop("PixelOriginInterpretation", None)  # of images in tiles and frames
    spacing = shown_spacing(source)
    if spacing is None:
        area.PresentationPixelAspectRatio = [round(side) for side in sides(source, "PixelAspectRatio") or (1, 1)]
        return
    area.pop("PresentationPixelAspectRatio", None)
    area.PresentationPixelSpacing = [f"{side:.6g}" for side in spacing]


def _show_as(state: Dataset, source: Dataset, window: Window | None) -> None:
    """The source's grayscale transformations: a presentation state replaces them all (PS3.4 N.2).

    Raises:
        UnreadableImageError: a lookup table cannot be read.
    """
    copy_elements(source, state, MODALITY_LUT)
    voi = Dataset()
    copy_elements(source, voi, VOI_LUT if items(source, "VOILUTSequence") else WINDOW)
    if not voi and window is not None:
        voi.WindowCenter, voi.WindowWidth = f"{window.center:.6g}", f"{window.width:.6g}"
    for item in items(state, "ModalityLUTSequence"):
        _widen_modality(item, voi, source)
    for item in items(voi, "VOILUTSequence"):
        table = lookup_table(item, source)
        _widen(item, table, white=table.top)
    if voi:
        state.SoftcopyVOILUTSequence = Sequence([voi])
    state.PresentationLUTShape = "INVERSE" if is_shown_inverted(source) else "IDENTITY"


def _widen_modality(item: Dataset, voi: Dataset, source: Dataset) -> None:
    """Let what a Modality LUT gives grow, and the windows with it; a table that follows could not."""
    if "VOILUTSequence" in voi:
        return
    growth = _widen(item, lookup_table(item, source), white=None)
    centers, widths = numbers(voi, "WindowCenter"), numbers(voi, "WindowWidth")
    if centers and widths:  # about the pixels' middles (PS3.3 C.11.2.1.2.1)
        voi.WindowCenter = [f"{(center - 0.5) * growth + 0.5:.8g}" for center in centers]
        voi.WindowWidth = [f"{(width - 1) * growth + 1:.8g}" for width in widths]


def _widen(item: Dataset, table: LookupTable, *, white: float | None) -> float:
    """Give a lookup table entries of 16 bits that use them: here they have 8 or 16, in a DX image 10 to 16.

    Args:
        item: of a Modality or VOI LUT Sequence (PS3.3 C.11.1.1.1, C.11.8, C.8.11.3.1.5); changed in place.
        table: the same, read.
        white: the entry that becomes the largest of 16 bits; None: its own largest.

    Returns:
        How many times larger the entries are now.
    """
    growth = WHITE / (white or max(1, int(table.entries.max())))
    length, first, _ = item.LUTDescriptor
    item.LUTDescriptor = [length, first, 16]
    item["LUTData"] = DataElement("LUTData", VR.OW, np.rint(table.entries * growth).astype("<u2").tobytes())
    return growth
