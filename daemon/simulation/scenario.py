"""A scenario: who sends, who reads, what there is to find, and how well it is found. A TOML file, or the defaults."""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from cxr_triage.daemon.setting_errors import explain
from cxr_triage.daemon.setting_types import LevelName, Section
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.findings import ABNORMALITIES, ABNORMALITY_BY_NAME
from cxr_triage.model.priority import Level

#: Images of ChestX-ray14 that carry a label, of 112,120 (counted in its Data_Entry_2017.csv; Wang et al. 2017).
CHESTXRAY14: Final = {
    "Infiltration": 19894,
    "Effusion": 13317,
    "Atelectasis": 11559,
    "Nodule": 6331,
    "Mass": 5782,
    "Pneumothorax": 5302,
    "Consolidation": 4667,
    "Pleural_Thickening": 3385,
    "Cardiomegaly": 2776,
    "Emphysema": 2516,
    "Edema": 2303,
    "Fibrosis": 1686,
    "Pneumonia": 1431,
    "Hernia": 227,
}
CHESTXRAY14_IMAGES: Final = 112120
#: Labels of at least this default severity are critical where the scenario does not say which are.
CRITICAL_SEVERITY: Final = 0.65


def _label(name: str) -> str:
    if name not in ABNORMALITY_BY_NAME:
        raise ValueError(f"there is no label {name!r}: use one of {', '.join(ABNORMALITY_BY_NAME)}")
    return name


Label = Annotated[str, AfterValidator(_label)]
Share = Annotated[float, Field(ge=0, le=1)]


class OperatingPoint(Section):
    """How well one label is found."""

    sensitivity: Share = Field(description="Share of the studies with it that are flagged.")
    specificity: Share = Field(description="Share of the studies without it that are not.")


class Traffic(Section):
    """What arrives."""

    studies: int = Field(default=10_000, ge=100, description="Studies of a run.")
    per_hour: float = Field(default=9.6, gt=0, description="Arrivals in an hour, on average (Poisson).")
    by_hour: tuple[float, ...] = Field(
        default=(), description="24 weights of the hours of a day, their mean being the average; empty: all alike."
    )
    ordered: dict[LevelName, float] = Field(
        default={"ROUTINE": 1.0}, description="How the ordered priorities are mixed; any positive numbers."
    )
    arrivals: Path | None = Field(
        default=None, description="CSV file of real arrivals instead of these; relative to this file."
    )

    @model_validator(mode="after")
    def _whole_day(self) -> Self:
        if self.by_hour and (len(self.by_hour) != 24 or min(self.by_hour) < 0 or max(self.by_hour) <= 0):
            raise ValueError("by_hour needs 24 weights that are not negative, one of them positive")
        if not self.ordered or min(self.ordered.values()) < 0 or max(self.ordered.values()) <= 0:
            raise ValueError("ordered needs at least one level with a positive number")
        return self


class Readers(Section):
    """Who reads."""

    number: int = Field(default=1, ge=1, le=1000, description="Readers who take the next study when they are done.")
    minutes: float = Field(default=5.0, gt=0, description="Time to read a study, on average.")
    variation: float = Field(
        default=1.0, ge=0, le=10, description="Standard deviation through mean (gamma): 1 is exponential, 0 constant."
    )
    by_hour: tuple[int, ...] = Field(
        default=(), description="Readers on duty in each of the 24 hours, instead of `number`; empty: always the same."
    )

    @model_validator(mode="after")
    def _whole_day(self) -> Self:
        if self.by_hour and (len(self.by_hour) != 24 or min(self.by_hour) < 0 or max(self.by_hour) == 0):
            raise ValueError("by_hour needs 24 numbers of readers that are not negative, one of them positive")
        return self


class Findings(Section):
    """What there is to find, and how well it is found."""

    prevalence: dict[Label, Share] = Field(
        default={name: round(count / CHESTXRAY14_IMAGES, 4) for name, count in CHESTXRAY14.items()},
        description="Share of the studies that have a label, each on its own; default: of ChestX-ray14's images.",
    )
    operating_points: dict[Label, OperatingPoint] = Field(
        default={},
        description="Of labels that are found otherwise than the bundle's card says.",
    )
    by_card: bool = Field(
        default=True, description="Whether labels without an operating point here have those of the bundle's card."
    )
    critical: tuple[Label, ...] = Field(
        default=tuple(each.name for each in ABNORMALITIES if each.severity >= CRITICAL_SEVERITY),
        description="Labels that make a study critical: for them the minutes saved are told.",
    )
    scoring_seconds: float = Field(default=10.0, ge=0, description="From arrival until findings are known.")


class Scenario(Section):
    """All of it. The policy is that of the configuration."""

    seed: int = Field(default=1, description="Of everything that is drawn: the same seed, the same figures.")
    runs: int = Field(default=10, ge=2, le=1000, description="Independent repetitions, for the intervals.")
    traffic: Traffic = Traffic()
    readers: Readers = Readers()
    findings: Findings = Findings()

    def mix(self) -> dict[Level, float]:
        """Share of each ordered level."""
        total = sum(self.traffic.ordered.values())
        return {Level[name]: weight / total for name, weight in self.traffic.ordered.items()}


def load_scenario(file: Path | None) -> Scenario:
    """Read a scenario; None = the defaults.

    Raises:
        ConfigurationError: it cannot be read, or says what cannot be meant.
    """
    if file is None:
        return Scenario()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}): check --scenario") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: is not TOML: {error}") from None
    try:
        scenario = Scenario.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(explain(error, Scenario, file)) from None
    if scenario.traffic.arrivals is None:
        return scenario
    arrivals = file.parent / scenario.traffic.arrivals
    return scenario.model_copy(update={"traffic": scenario.traffic.model_copy(update={"arrivals": arrivals})})
