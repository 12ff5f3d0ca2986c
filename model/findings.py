"""The vocabulary: what the network may say, and the codes it is said with. One table each, nothing hidden.

The order of the abnormalities means nothing to a network: a weights bundle names its own labels in its own order, and
thresholds, which belong to one set of weights, travel with the bundle's card.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 section 8, Table 8.8-1)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Abnormality:
    """One label of the network: its name, how it is coded, and how urgent it is when found."""

    name: str
    code: Code
    #: Default weight in the priority's utility, 0 (never urgent) to 1 (most urgent).
    severity: float
    #: What it is an abnormality of: "lungs" (pleura included), "heart", or empty for what lies beside both.
    site: str = "lungs"


#: Our own codes, for what neither DICOM (PS3.16), SNOMED CT, LOINC nor RadLex was found to have.
PRIVATE_SCHEME: Final = "99CXRTRIAGE"

#: The 14 text-mined labels of ChestX-ray14 (Wang et al. 2017), most urgent first.
#:
#: SNOMED CT codes; in DICOM's own context groups are Pneumothorax (PS3.16 CID 6105), Pleural effusion (CID 8134) and
#: Pulmonary edema (CID 3700). The others were checked against published SNOMED CT content (tx.fhir.org's browser, UMLS
#: and OMOP excerpts, check digits). "Nodule" is one or several, so it is not "Solitary nodule of lung" (427359005).
#: For pleural thickening none could be confirmed (a code that circulates, 78381009, fails SNOMED CT's check digit).
ABNORMALITIES: Final = (
    Abnormality("Pneumothorax", Code("36118008", "SCT", "Pneumothorax"), 1.00),
    Abnormality("Effusion", Code("60046008", "SCT", "Pleural effusion"), 0.80),
    Abnormality("Infiltration", Code("409609008", "SCT", "Radiologic infiltrate of lung"), 0.70),
    Abnormality("Consolidation", Code("95436008", "SCT", "Lung consolidation"), 0.70),
    Abnormality("Pneumonia", Code("233604007", "SCT", "Pneumonia"), 0.70),
    Abnormality("Edema", Code("19242006", "SCT", "Pulmonary edema"), 0.65),
    Abnormality("Atelectasis", Code("46621007", "SCT", "Atelectasis"), 0.50),
    Abnormality("Cardiomegaly", Code("8186001", "SCT", "Cardiomegaly"), 0.45, site="heart"),
    Abnormality("Mass", Code("309529002", "SCT", "Lung mass"), 0.40),
    Abnormality("Nodule", Code("786838002", "SCT", "Nodule of lung"), 0.35),
    Abnormality("Emphysema", Code("87433001", "SCT", "Pulmonary emphysema"), 0.20),
    Abnormality("Fibrosis", Code("51615001", "SCT", "Fibrosis of lung"), 0.20),
    Abnormality("Pleural_Thickening", Code("PLEURAL-THICKENING", PRIVATE_SCHEME, "Pleural thickening"), 0.15),
    Abnormality("Hernia", Code("84089009", "SCT", "Hiatal hernia"), 0.15, site=""),
)

ABNORMALITY_BY_NAME: Final = {abnormality.name: abnormality for abnormality in ABNORMALITIES}


@dataclass(frozen=True, slots=True)
class Structure:
    """An organ that the network outlines. Left and right are the patient's."""

    name: str
    code: Code
    #: Recommended display colour, sRGB 0-255.
    rgb: tuple[int, int, int]


#: In the order of the mask channels, everywhere. SNOMED CT "Left lung structure", "Right lung structure" and (PS3.16
#: CID 6100) "Heart structure".
STRUCTURES: Final = (
    Structure("left_lung", Code("44029006", "SCT", "Left lung"), (70, 160, 255)),
    Structure("right_lung", Code("3341006", "SCT", "Right lung"), (80, 220, 140)),
    Structure("heart", Code("80891009", "SCT", "Heart"), (255, 90, 90)),
)

#: What a finding may be said to lie in: a structure, or both lungs, of which DICOM has one code (PS3.16 CID 4031).
SITES: Final = {structure.name: structure.code for structure in STRUCTURES} | {"lungs": Code("39607008", "SCT", "Lung")}

#: Parts of the lung fields by height, from apex to base: qualifiers of SNOMED CT.
THIRDS: Final = {
    "upper": Code("261183002", "SCT", "Upper"),
    "middle": Code("255562008", "SCT", "Mid"),
    "lower": Code("261122009", "SCT", "Lower"),
}


@dataclass(frozen=True, slots=True)
class Zone:
    """Where a finding lies, as far as a bundle's maps were shown to tell."""

    #: A name in SITES.
    site: str
    #: A name in THIRDS; empty: not told.
    third: str = ""


#: Where an abnormality lies: side (the patient's), vertical fifth of the lung field from apex to base, and spread.
LOCATIONS: Final = (
    "left",
    "right",
    "fifth_1",
    "fifth_2",
    "fifth_3",
    "fifth_4",
    "fifth_5",
    "diffuse",
    "multiple",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What the network says of one abnormality in one radiograph."""

    #: A name in ABNORMALITIES.
    label: str
    #: Calibrated probability, 0 to 1.
    probability: float
    #: Operating threshold of the bundle, on the same scale.
    threshold: float
    #: Where it lies; None: not told.
    zone: Zone | None = None

    @property
    def present(self) -> bool:
        """Whether the probability reaches the operating threshold."""
        return self.probability >= self.threshold

    @property
    def abnormality(self) -> Abnormality:
        """The row of the vocabulary that this finding is about."""
        return ABNORMALITY_BY_NAME[self.label]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A number measured on the masks of one radiograph."""

    #: Key in MEASUREMENT_CODES.
    name: str
    value: float
    #: UCUM unit: "1" for a ratio, "mm2" for an area.
    unit: str
    #: What a reader must know of it, for instance "in the detector plane"; empty when nothing.
    qualifier: str = ""


#: SNOMED CT "Area" is in PS3.16 CID 7469. PS3.16 has cardiothoracic ratios of a fetus's circumferences and areas only
#: (CID 12279, LOINC 59074-5 and 59076-0), and RSNA's common data elements describe the ratio of widths without a code.
MEASUREMENT_CODES: Final = {
    "cardiothoracic_ratio": Code("CTR", PRIVATE_SCHEME, "Cardiothoracic ratio"),
    "left_lung_area": Code("42798000", "SCT", "Area"),
    "right_lung_area": Code("42798000", "SCT", "Area"),
}

#: The structure (a name in STRUCTURES) whose report a measurement stands in.
MEASURED_STRUCTURE: Final = {
    "cardiothoracic_ratio": "heart",
    "left_lung_area": "left_lung",
    "right_lung_area": "right_lung",
}

#: A length or area as the detector saw it: larger than in the patient by an unknown magnification.
DETECTOR_PLANE: Final = "in the detector plane"

#: What a measurement's qualifier is coded as; "In Detector Plane" is in PS3.16 CID 10025.
QUALIFIER_CODES: Final = {DETECTOR_PLANE: Code("113941", "DCM", "In Detector Plane")}
