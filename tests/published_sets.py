"""Data sets in miniature, each in the layout that it is published in: file names, headers, line ends."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from builders import radiograph_dataset, thorax_masks
from cxr_triage.training.sources import Source
from cxr_triage.training.sources.manifest import write_manifest
from cxr_triage.training.sources.published import Published

#: Data_Entry_2017.csv as of 2017: ages with a unit, and one more comma at the end of each line.
NIH_2017: Final = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
    "00000001_000.png,Cardiomegaly|Emphysema,000,1,058Y,M,PA,2682,2749,0.143,0.143,\n"
    "00000001_001.png,No Finding,001,1,058Y,M,AP,2894,2729,0.143,0.143,\n"
    "00013118_008.png,Infiltration,008,13118,069Y,F,PA,2500,2048,0.168,0.168,\n"
)
#: Data_Entry_2017_v2020.csv: the same rows.
NIH_2020: Final = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
    "00000001_000.png,Cardiomegaly|Emphysema,0,1,58,M,PA,2682,2749,0.143,0.143\n"
    "00000001_001.png,No Finding,1,1,58,M,AP,2894,2729,0.143,0.143\n"
    "00013118_008.png,Infiltration,8,13118,69,F,PA,2500,2048,0.168,0.168\n"
)
NIH_BOXES: Final = (
    "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    "00013118_008.png,Infiltrate,225.084745762712,547.019216763771,86.7796610169491,79.1864406779661,,,\n"
)


def grey_image(path: Path, shape: tuple[int, int] = (32, 32)) -> Path:
    """Write a small 8-bit image of the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)).save(path)
    return path


def nih_folder(folder: Path, *, release: str = "2017") -> Path:
    """ChestX-ray14 with three images of two patients, in two of its twelve archives."""
    grey_image(folder / "images_001" / "images" / "00000001_000.png")
    grey_image(folder / "images_001" / "images" / "00000001_001.png")
    grey_image(folder / "images_006" / "images" / "00013118_008.png")
    if release == "2017":
        (folder / "Data_Entry_2017.csv").write_text(NIH_2017)
    else:
        (folder / "Data_Entry_2017_v2020.csv").write_text(NIH_2020)
    (folder / "BBox_List_2017.csv").write_text(NIH_BOXES)
    (folder / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    (folder / "test_list.txt").write_text("00013118_008.png")
    return folder


def kermany_folder(folder: Path) -> Path:
    """Five images of four children, all forms of names."""
    for name in (
        "train/NORMAL/IM-0115-0001.jpeg",
        "train/NORMAL/NORMAL2-IM-0927-0001.jpeg",
        "train/PNEUMONIA/person3_bacteria_10.jpeg",
        "val/PNEUMONIA/person1946_bacteria_4874.jpeg",
        "train/PNEUMONIA/person3_virus_16.jpeg",
    ):
        grey_image(folder / "chest_xray" / name)
    return folder


#: Three images: an opacity with two boxes, one that is not normal otherwise, a normal one.
RSNA_OPACITY: Final = "00436515-870c-4b36-a041-de91049b9ab4"
RSNA_OTHER: Final = "0004cfab-14fd-4e49-80ba-63a80b6bddd6"
RSNA_NORMAL: Final = "003d8fa0-6bf1-40ed-b54c-ac657f8495c5"


def rsna_folder(folder: Path) -> Path:
    """RSNA's challenge with three training images, one of the test, and the table that says whose they are."""
    names = (RSNA_OPACITY, RSNA_OTHER, RSNA_NORMAL)
    for name, age, view in zip(names, ("32", "51", "48"), ("AP", "PA", "PA"), strict=True):
        _rsna_image(folder / "stage_2_train_images" / f"{name}.dcm", age, view)
    _rsna_image(folder / "stage_2_test_images" / "0000a175-0e68-4ca4-b1af-167204a7e0bc.dcm", "40", "PA")
    (folder / "stage_2_train_labels.csv").write_text(
        "patientId,x,y,width,height,Target\n"
        f"{RSNA_OTHER},,,,,0\n{RSNA_NORMAL},,,,,0\n"
        f"{RSNA_OPACITY},264.0,152.0,213.0,379.0,1\n{RSNA_OPACITY},562.0,152.0,256.0,453.0,1\n"
    )
    (folder / "stage_2_detailed_class_info.csv").write_text(
        f"patientId,class\n{RSNA_OTHER},No Lung Opacity / Not Normal\n{RSNA_NORMAL},Normal\n"
        f"{RSNA_OPACITY},Lung Opacity\n{RSNA_OPACITY},Lung Opacity\n"
    )
    mapping = [
        {"subset_img_id": name, "img_id": f"0000{number:04d}_00{number}.png"} for number, name in enumerate(names, 1)
    ]
    (folder / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(mapping))
    return folder


def _rsna_image(path: Path, age: str, view: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = radiograph_dataset(PatientSex="F", ViewPosition=view, PatientAge="001Y")
    # The challenge's files leave out the unit, against PS3.5 6.2.
    dataset["PatientAge"]._value = age  # noqa: SLF001 - pydicom refuses to be given it
    dataset.save_as(path, enforce_file_format=True)


#: Lines as the published files have them: Macintosh line ends, "?" for unknown, a blank line at the end.
JSRT_NODULES: Final = (
    "JPCLN001.IMG\t5\t15\t53\tmale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer\r"
    "JPCLN002.IMG\t5\t30\t?\tfemale\t1614\t1090\tbenign\tl.upper lobe(S5)\tpulmonary hematoma\r\r"
)
JSRT_OTHERS: Final = "JPCNN001.IMG   54   male   non-nodule\r"


def film(side: int = 2048) -> NDArray[np.uint16]:
    """Twelve bits as a film scanner gives them: the blacker, the higher."""
    left, right, heart = thorax_masks(side, side)
    blackening = np.full((side, side), 1200, dtype=">u2")
    blackening[left | right] = 3400
    blackening[heart] = 300
    return blackening


def jsrt_folder(folder: Path) -> Path:
    """Two raw files and a conversion, with SCR's outlines of the raw ones in its two folds."""
    raw, masks = film(), thorax_masks(1024, 1024)
    (folder / "All247images").mkdir(parents=True)
    for name, fold in (("JPCLN001", "fold2"), ("JPCNN001", "fold1")):
        raw.tofile(folder / "All247images" / f"{name}.IMG")
        for structure, mask in zip(("left lung", "right lung", "heart"), masks, strict=True):
            path = folder / "scratch" / fold / "masks" / structure / f"{name}.gif"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    grey_image(folder / "converted" / "JPCLN002.png")
    (folder / "Clinical_Information").mkdir()
    (folder / "Clinical_Information" / "CLNDAT_EN.txt").write_bytes(JSRT_NODULES.encode())
    (folder / "Clinical_Information" / "CNNDAT_EN.TXT").write_bytes(JSRT_OTHERS.encode())
    return folder


PLCO_SCREEN_COLUMNS: Final = (
    *("as_nodule", "as_mass", "an_gran", "as_infiltrate", "an_scar", "an_pleufibro"),
    *("an_bone", "an_cardiac", "an_copd", "an_pleufluid", "as_atelect", "as_hilar"),
)


def plco_folder(folder: Path) -> Path:
    """Three images of two people, one of them inadequate, as far as the layout is known."""
    (folder / "Screening").mkdir(parents=True)
    found = {"as_nodule": "1", "an_copd": "1"}
    rows = [
        ("A-000001-1", "0", "3", "12", *(found.get(column, "0") for column in PLCO_SCREEN_COLUMNS)),
        ("A-000001-1", "1", "1", "380.0", *("0",) * 11, ""),
        ("B-000002-2", "0", "4", "5", *("",) * 12),
    ]
    header = ("plco_id", "study_yr", "xry_result", "xry_days", *PLCO_SCREEN_COLUMNS)
    write_table(folder / "Screening" / "lung_screen_data_mar22_d032222.csv", header, rows)
    write_table(
        folder / "lung_data_mar22_d032222.csv",
        ("plco_id", "age", "sex"),
        [("A-000001-1", "61", "1"), ("B-000002-2", "59", "2")],
    )
    link = [("A-000001-1", "0", "aa01"), ("A-000001-1", "1", "AA02"), ("B-000002-2", "0", "bb01")]
    write_table(folder / "lung_xryimg25_data_mar22_d032222.csv", ("plco_id", "study_yr", "image_file_name"), link)
    for name in ("aa01", "aa02", "bb01"):
        path = folder / "batch_1a" / f"{name}.tif"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32)).save(path)
    return folder


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a comma-separated table."""
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(header)
        writer.writerows(rows)


def replace_in(path: Path, old: str, new: str) -> None:
    """Change what a table says."""
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new).encode())


def written(source: Source, folder: Path, **columns: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Write a manifest beside a published folder; its rows without the empty cells, and the report."""
    output = folder.parent / "manifest"
    summary = write_manifest(source, Published(path=folder, columns=columns), output)
    assert json.loads((output / "report.json").read_text()) == summary
    with (output / "manifest.csv").open(newline="") as lines:
        rows = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(lines)]
    return rows, summary


def problems_of(summary: dict[str, Any]) -> dict[str, tuple[int, list[str]]]:
    """By kind the count and the first names."""
    return {kind: (entry["count"], entry["first"]) for kind, entry in summary["problems"].items()}
