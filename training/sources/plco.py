"""PLCO chest radiographs (NCI, Cancer Data Access System). UNVERIFIED: never read against the real files.

What is known of the layout comes from readers of it that were found on GitHub, since NCI gives files and dictionary to
approved projects only: a linkage table (lung_xryimg25_data_*.csv, before 2022 link_2021_25k_selection) with plco_id,
image_file_name, and study_yr or assoc_visit_syr; a table of screens (lung_screen_data_*.csv) with a row per plco_id and
study_yr and the columns of LABELS below, besides xry_result, of which 4 is "inadequate"; a table of participants
(lung_data_*.csv) with age at randomization and sex (1 male, 2 female). The images are TIFF, in folders of batches
(cdas.cancer.gov/learn/plco/images). NCI's names of the findings: "Nodule", "Mass", "Granuloma", "Fluid in pleural
space", "Right/left hilar abnormality", "Major atelectasis", "Infiltrate", "Scarring", "Pleural fibrosis",
"Bone/soft tissue lesion", "Cardiac abnormality", "COPD". Guendel et al. 2019 trained the twelve most frequent ones,
taken to be those below.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cxr_triage.training.data import DataError
from cxr_triage.training.sources.published import Published
from cxr_triage.training.sources.source import Record, Source

#: Label -> its column in the table of screens; as_ and an_ are presumably "suspicious" and "not suspicious".
LABELS: Final = {
    "Nodule": "as_nodule",
    "Mass": "as_mass",
    "Granuloma": "an_gran",
    "Infiltrate": "as_infiltrate",
    "Scarring": "an_scar",
    "Pleural_Fibrosis": "an_pleufibro",
    "Bone_Soft_Tissue_Lesion": "an_bone",
    "Cardiac_Abnormality": "an_cardiac",
    "COPD": "an_copd",
    "Effusion": "an_pleufluid",
    "Atelectasis": "as_atelect",
    "Hilar_Abnormality": "as_hilar",
}
#: The study year of an image has had both names.
YEAR_COLUMNS: Final = ("study_yr", "assoc_visit_syr")
INADEQUATE: Final = "4"
SEXES: Final = {"1": "M", "2": "F"}
DAYS_PER_YEAR: Final = 365.25


def read(published: Published) -> Iterator[Record]:
    """One record per linked image that is there and whose screen is listed."""
    screens, people = _screens(published), _people(published)
    images = {path.stem.lower(): path for path in published.images(".tif", ".tiff", ".png", ".jpg").values()}
    listed = set()
    linkage = _table(published, "lung_xryimg*_data_*.csv", "link_*.csv")
    for row in published.rows(linkage, ("plco_id", "image_file_name")):
        name, person = row["image_file_name"], row["plco_id"]
        path = images.get(Path(name).stem.lower())
        listed.add(Path(name).stem.lower())
        year = next((_whole(row[column]) for column in YEAR_COLUMNS if column in row), "")
        screen = screens.get((person, year))
        if path is None:
            published.report.note("missing_image", name)
        elif screen is None:
            published.report.note("unlabelled_image", name)
        elif _whole(screen.get("xry_result", "")) == INADEQUATE:
            published.report.note("inadequate_image", name)
        else:
            yield _record(path, person, screen, people.get(person, {}), published)
    for name in sorted(images.keys() - listed):
        published.report.note("unlisted_image", images[name].name)


def _table(published: Published, *patterns: str) -> Path:
    """The last one by name of the first pattern that finds any: names end in a month and a version."""
    for pattern in patterns:
        found = sorted(published.path.rglob(pattern))
        if found:
            return found[-1]
    raise DataError(f"{published.path} has no {' or '.join(patterns)}: put NCI's tables (CSV) and images there")


def _screens(published: Published) -> dict[tuple[str, str], Mapping[str, str]]:
    """Screens by plco_id and study year."""
    table = _table(published, "lung_screen_data_*.csv")
    found: dict[tuple[str, str], Mapping[str, str]] = {}
    for row in published.rows(table, ("plco_id", "study_yr", *LABELS.values())):
        key = (row["plco_id"], _whole(row["study_yr"]))
        if key in found:
            published.report.note("duplicate_id", f"{table.name}: {key[0]} in year {key[1]}")
        else:
            found[key] = row
    return found


def _people(published: Published) -> dict[str, Mapping[str, str]]:
    """Participants by plco_id; their table only adds age and sex."""
    tables = sorted(published.path.rglob("lung_data_*.csv"))
    if not tables:
        published.report.note("missing_file", "lung_data_*.csv")
        return {}
    return {row["plco_id"]: row for row in published.rows(tables[-1], ("plco_id", "age", "sex"))}


def _record(
    path: Path, person: str, screen: Mapping[str, str], known: Mapping[str, str], published: Published
) -> Record:
    return Record(
        id=path.stem.lower(),
        image=path,
        patient=person,
        sex=SEXES.get(_whole(known.get("sex", "")), ""),
        age=published.age(_age(known.get("age", ""), screen.get("xry_days", "")), path.name),
        view="PA",
        labels=_labels(screen, path.name, published),
    )


def _labels(screen: Mapping[str, str], name: str, published: Published) -> dict[str, bool]:
    found = {}
    for label, column in LABELS.items():
        match _whole(screen[column]):
            case "1" | "0" as cell:
                found[label] = cell == "1"
            case "":
                pass
            case other:
                published.report.note("unreadable_label", f"{name} {column}={other}")
    return found


def _age(at_randomization: str, days: str) -> str:
    """Years at the screen, whose day is counted from randomization."""
    try:
        return str(int(float(at_randomization) + float(days or 0) / DAYS_PER_YEAR))
    except ValueError:
        return at_randomization


def _whole(cell: str) -> str:
    """Numbers that SAS exported as "1.0", without the fraction."""
    return cell.removesuffix(".0").strip()


SOURCE: Final = Source(
    name="plco",
    terms="For projects that NCI's Cancer Data Access System approved, under its data transfer agreement.",
    labels=tuple(LABELS),
    unverified="never read against the real files: layout and columns are taken from others' readers",
    read=read,
)
