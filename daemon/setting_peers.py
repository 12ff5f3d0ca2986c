"""The tables of the configuration file about who sends to us, and whom we send to and ask."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cxr_triage.daemon.results.profiles import AIR
from cxr_triage.daemon.setting_types import (
    AeTitle,
    Colour,
    Description,
    Host,
    Hours,
    Meaning,
    MinutesOrZero,
    ObjectName,
    Port,
    Seconds,
    Section,
    StandIns,
    StowUrl,
    is_kept_secret,
)


class DicomSettings(Section):
    """The port that modalities send images to."""

    ae_title: AeTitle = Field(default="CXRTRIAGE", description="AE title that we answer to.")
    host: Host = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: Port = Field(default=11112, description="TCP port to listen on.")
    allowed_ae_titles: tuple[AeTitle, ...] = Field(
        default=(), description="Calling AE titles that may send; empty: any."
    )
    require_called_ae_title: bool = Field(
        default=False, description="Whether a sender must call us by our AE title, or is refused."
    )
    receivers: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Processes that share this port: while one starts again, the others answer.",
    )
    maximum_associations: int = Field(
        default=10, ge=1, description="Associations served at the same time, by all receivers together."
    )
    maximum_pdu_bytes: int = Field(
        default=131072, ge=4096, le=4294967295, description="Largest P-DATA-TF PDU that we receive (PS3.8 9.3.1)."
    )
    acse_timeout_seconds: Seconds = Field(default=30, description="Longest wait within association set-up.")
    dimse_timeout_seconds: Seconds = Field(default=60, description="Longest wait for the rest of a DIMSE message.")
    network_timeout_seconds: Seconds = Field(default=60, description="Longest silence of a peer before we hang up.")
    commitment: bool = Field(
        default=False,
        description="Whether modalities may ask for storage commitment, on which they delete their images. We pass on "
        "what the PACS says, and never commit ourselves.",
    )
    commitment_destination: str = Field(
        default="",
        description="Name of the `[[destination]]` that is asked whether it has the images; required with "
        "`commitment = true`.",
    )
    commitment_give_up_hours: Hours = Field(
        default=72, description="Age at which a modality's request fails for the images that the PACS has not yet."
    )
    commitment_report_hours: Hours = Field(
        default=72, description="How long to try to tell a modality the result before that is given up."
    )


class Modality(Section):
    """Where one modality that may ask for storage commitment is reached with the result. Repeat the table for more."""

    ae_title: AeTitle = Field(description="AE title that it calls us with, and that it answers to.")
    host: Host = Field(description="Its address.")
    port: Port = Field(description="Its TCP port.")


class UpsSubscriber(Section):
    """Where one system that may subscribe to procedure steps is told of their events. Repeat the table for more."""

    ae_title: AeTitle = Field(description="AE title that it subscribes for, and that it answers to.")
    host: Host = Field(description="Its address.")
    port: Port = Field(description="Its TCP port.")


class DeliverSettings(Section):
    """How objects are sent to the destinations."""

    lease_seconds: Seconds = Field(default=300, description="How long a claimed object belongs to its sender.")
    acse_timeout_seconds: Seconds = Field(default=10, description="Longest wait within association set-up.")
    dimse_timeout_seconds: Seconds = Field(default=60, description="Longest wait for a destination's answer.")
    network_timeout_seconds: Seconds = Field(default=60, description="Longest silence before we hang up.")
    retry_first_seconds: Seconds = Field(default=5, description="Wait after the first failure; doubles each time.")
    retry_longest_seconds: Seconds = Field(default=600, description="Longest wait between attempts.")
    give_up_after_hours: Hours = Field(
        default=168,
        description="Age at which an object is given up that a destination does not answer for, or has no room for.",
    )
    maximum_refusals: int = Field(
        default=3,
        ge=1,
        description="Offers of an object that a destination refuses for good; the wait between them is the short one.",
    )
    poll_seconds: Seconds = Field(default=2, description="How often to look for work when nobody rings.")
    commitment_delay_seconds: Seconds = Field(
        default=30, description="How long an object has been stored before its destination is asked to commit to it."
    )
    commitment_wait_seconds: Seconds = Field(
        default=5,
        description="How long the association of a request for commitment stays open for a report on it; most PACS "
        "open one of their own.",
    )
    commitment_retry_hours: Hours = Field(
        default=6,
        description="When to ask for commitment again where no report came, or where the destination refused to be "
        "asked.",
    )
    commitment_maximum_failures: int = Field(
        default=5,
        ge=1,
        description="How often a destination may answer that it does not commit to an object; it is sent again each "
        "time but the last.",
    )


class Destination(Section):
    """One PACS that results are sent to, by C-STORE or, with `stow_url`, by STOW-RS. Repeat the table for more."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$", description="Our name for it.")
    ae_title: AeTitle = Field(default="", description="AE title that it answers to; required without `stow_url`.")
    host: Host = Field(default="", description="Its address; required without `stow_url`.")
    port: Port = Field(default=0, description="Its TCP port; required without `stow_url`.")
    stow_url: StowUrl | None = Field(
        default=None,
        description="Address of its DICOMweb Studies resource, `https://pacs.example.org/dicom-web/studies`: objects "
        "are stored there by STOW-RS.",
    )
    stow_token_file: Path | None = Field(
        default=None, description="File with the bearer token that we show there; read anew each time."
    )
    stow_password_file: Path | None = Field(
        default=None,
        description="File with `USER:PASSWORD` that we show there (basic authentication); read anew each time.",
    )
    stow_ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities that vouch for it; left out: those of this machine."
    )
    profile: str = Field(
        default=AIR.name,
        description="Emission profile: what is sent, and how it is written. `air` (IHE AI Results: SEG and SR by the "
        "standard), `ohif` (the same with a nominal plane and a line in every group of the SR), `stone` (pictures and "
        "a Comprehensive SR, for Orthanc's Stone Web Viewer), `weasis` (SEG, presentation states, SR and Key Object "
        "Selection), `floor` (pictures and sentences, which every PACS shows), or the name of a `[[profile]]`.",
    )
    commitment: bool = Field(
        default=False,
        description="Whether it is asked for storage commitment; an object then counts as delivered, and may leave the "
        "outbox, only once it has committed to it. Not by STOW-RS, which has no such thing.",
    )
    rejection_notes: bool = Field(
        default=False,
        description="Whether it acts on rejection notes (IHE Imaging Object Change Management) and is sent one about "
        "what was superseded or withdrawn.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.stow_url is None:
            self._require_dicom()
        else:
            self._require_stow()
        return self

    def _require_dicom(self) -> None:
        if not (self.ae_title and self.host and self.port):
            raise ValueError("write ae_title, host and port (C-STORE), or stow_url (STOW-RS)")
        if self.stow_token_file or self.stow_password_file or self.stow_ca_file:
            raise ValueError("stow_token_file, stow_password_file and stow_ca_file need stow_url")

    def _require_stow(self) -> None:
        if {"ae_title", "host", "port"} & self.model_fields_set:
            raise ValueError("write ae_title, host and port (C-STORE) or stow_url (STOW-RS), not both")
        if self.commitment:
            raise ValueError("commitment = true needs ae_title, host and port: STOW-RS knows no storage commitment")
        if self.stow_token_file and self.stow_password_file:
            raise ValueError("write stow_token_file or stow_password_file, not both")
        if (self.stow_token_file or self.stow_password_file) and not is_kept_secret(self.stow_url or ""):
            raise ValueError("a token or password needs https: by http anybody on the way reads it")


class EmissionProfile(Section):
    """An emission profile of the site's own. Repeat the table for more."""

    name: str = Field(
        min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$", description="What destinations name it by."
    )
    like: Literal["air", "ohif", "stone", "weasis", "floor"] = Field(
        default="air", description="The profile that it is like but for what follows."
    )
    objects: tuple[ObjectName, ...] = Field(
        default=(),
        description="What is made: `SEG` (segmentation), `PR` (presentation state), `SC` (picture with the drawing "
        "burned in), `SR` (report), `KO` (Key Object Selection of images with findings); empty: as in `like`.",
    )
    stand_ins: StandIns | None = Field(
        default=None,
        description="What is sent instead of what a destination does not take, form by form: of `SEG`, `PR`, `SC`, and "
        "of reports, `comprehensive 3d`, `comprehensive`, `basic text`; `{}`: nothing; left out: as in `like`.",
    )
    series_descriptions: dict[ObjectName, Description] = Field(
        default={}, description="Series Description per object, at most 56 characters."
    )
    series_numbers: dict[ObjectName, Annotated[int, Field(ge=0, le=2**31 - 1)]] = Field(
        default={}, description="Series Number per object."
    )
    colours: dict[Literal["left_lung", "right_lung", "heart"], Colour] = Field(
        default={}, description="Display colour per structure, `#rrggbb`."
    )
    opacity: float = Field(
        default=AIR.opacity, ge=0, le=1, description="How much the structures' areas colour a picture; 0: lines alone."
    )
    capture_pixels: int = Field(
        default=AIR.capture_pixels, ge=256, le=4096, description="Longer side of a picture; smaller images stay small."
    )
    font: Path | None = Field(
        default=None, description="TrueType file of the letters in pictures; left out: Latin letters of our own."
    )
    notice: str = Field(default="", max_length=200, description="A first line in what is drawn on images.")
    language: Literal["en", "de", "es", "fr"] = Field(
        default="en", description="Language of the codes' meanings; sentences stay English."
    )
    meanings: dict[str, Meaning] = Field(
        default={}, description='Meanings of single codes, by `SCHEME:VALUE`: `{"SCT:36118008" = "Pneumothorax"}`.'
    )


class RisSettings(Section):
    """The RIS: its modality worklist is asked how urgently a study was ordered that came without an order."""

    host: Host | None = Field(
        default=None, description="Its address; left out: it is not asked, and such studies are ROUTINE."
    )
    port: Port | None = Field(default=None, description="Its TCP port; required with `host`.")
    ae_title: AeTitle | None = Field(default=None, description="AE title that it answers to; required with `host`.")
    calling_ae_title: AeTitle | None = Field(
        default=None, description="AE title that we call it with; left out: `dicom.ae_title`."
    )
    interval_seconds: Seconds = Field(
        default=60, description="When it is asked again about a study of which it did not know; doubles each time."
    )
    interval_longest_seconds: Seconds = Field(default=900, description="Longest wait between two questions.")
    give_up_hours: Hours = Field(default=12, description="How long it is asked about a study before that is given up.")
    ask_again_minutes: MinutesOrZero = Field(
        default=15,
        description="When it is asked again about a study that it answered for and that nobody reads yet: that may be "
        "more urgent by now. At most one such question per `poll_seconds`; 0: it is not asked again.",
    )
    poll_seconds: Seconds = Field(default=2, description="How often to look for studies to ask about.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if len({self.host is None, self.port is None, self.ae_title is None}) > 1:
            raise ValueError("write host, port and ae_title of the RIS, or none of them")
        return self
