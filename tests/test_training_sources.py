"""Data sets as training sees them: found without a list, separate outputs, and a command that counts what is wrong."""

import errno
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from cxr_triage.model.errors import ConfigurationError
from cxr_triage.training import sources
from cxr_triage.training.commands.manifest import manifest
from cxr_triage.training.data import NIH_LABELS, DataError, read_samples, split_of
from cxr_triage.training.sources import Published, known_sources, source_of
from cxr_triage.training.sources.manifest import write_manifest
from published_sets import (
    grey_image,
    kermany_folder,
    nih_folder,
    plco_folder,
    problems_of,
    replace_in,
    rsna_folder,
    written,
)

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to" / "add-a-data-set.md"


def test_every_file_with_a_source_is_known() -> None:
    """And says its terms; its name is the file's."""
    assert {"folder", "jsrt", "kermany", "nih", "plco", "rsna"} <= set(known_sources())
    for name, source in known_sources().items():
        assert source.name == name
        assert source.terms.endswith(".")
        assert source.read is not None
        assert set(source.outputs) | set(source.noise) <= set(source.labels)


def test_only_chestxray14_trains_its_outputs() -> None:
    """A label that shares a name across sets is another output."""
    outputs = [source.output_of(label) for source in known_sources().values() for label in source.labels]
    assert len(set(outputs)) == len(outputs)
    assert [source_of("nih").output_of(label) for label in NIH_LABELS] == list(NIH_LABELS)
    assert source_of("kermany").output_of("Pneumonia") == "Pneumonia_paediatric"
    assert source_of("jsrt").output_of("Nodule") == "Nodule_jsrt"
    assert source_of("rsna").output_of("Lung_Opacity") == "Lung_Opacity_rsna"
    assert source_of("kermany").output_of("Mass") is None
    assert source_of("nih").output_of("no_finding") is None


def test_unknown_sources_get_outputs_of_their_own() -> None:
    """Whatever the label; nothing is presumed of them."""
    unknown = source_of("wingspan")
    assert unknown.output_of("Effusion") == "Effusion_wingspan"
    assert unknown.output_of("no_finding") is None
    assert not unknown.noise
    assert not unknown.no_finding_is_normal


def test_who_is_adult_and_what_is_normal() -> None:
    """Children's radiographs are not the adults'; without a nodule is not without any finding."""
    assert [name for name in ("nih", "jsrt", "rsna", "plco", "kermany") if not source_of(name).adult] == ["kermany"]
    assert [name for name in known_sources() if source_of(name).no_finding_is_normal] == ["nih", "rsna"]


@pytest.fixture
def chexpert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The how-to's file among the sources, and CheXpert in miniature."""
    (code,) = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "chexpert.py").write_text(code)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path / "more")])
    known_sources.cache_clear()
    importlib.invalidate_caches()
    yield chexpert_folder(tmp_path / "CheXpert-v1.0-small")
    known_sources.cache_clear()


def chexpert_folder(folder: Path) -> Path:
    """Three frontal views and a lateral one."""
    header = (
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
        "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
        "Support Devices\n"
    )
    path = "CheXpert-v1.0-small/{}/view1_{}.jpg"
    one, two = path.format("train/patient00001/study1", "frontal"), path.format("train/patient00002/study2", "frontal")
    lateral = path.format("train/patient00002/study2", "lateral")
    three = path.format("valid/patient64541/study1", "frontal")
    for name in (one, two, lateral, three):
        grey_image(folder.parent / name)
    (folder / "train.csv").write_text(
        f"{header}{one},Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n"
        f"{two},Male,87,Frontal,PA,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,\n"
        f"{lateral},Male,87,Lateral,,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,\n"
    )
    (folder / "valid.csv").write_text(
        f"{header}{three},Male,73,Frontal,AP,0.0,1.0,1.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
    )
    return folder


def test_the_how_to_adds_a_data_set(chexpert: Path) -> None:
    """The page's own code, as a file: found, read, and its uncertain labels masked."""
    rows, summary = written(known_sources()["chexpert"], chexpert)
    first, second, third = rows
    labels = source_of("chexpert").labels
    assert (first["id"], first["patient"], first["split"]) == (
        "chexpert-patient00001-study1-view1_frontal",
        "patient00001",
        "train_val",
    )
    assert (first["no_finding"], first["Effusion"], first["sex"], first["view"]) == ("1", "0", "F", "AP")
    assert {name: first[name] for name in labels} == dict.fromkeys(labels, "0")
    # -1.0 in Cardiomegaly and four others, nothing in the rest.
    assert {name: second[name] for name in labels if name in second} == {"Lung_Opacity": "1", "Fracture": "1"}
    assert second["no_finding"] == "0"
    assert (third["split"], third["Cardiomegaly"]) == ("test", "1")
    assert summary["left_out"]["lateral_view"]["count"] == 1
    assert summary["problems"] == {}
    assert source_of("chexpert").output_of("Effusion") == "Effusion_chexpert"


def test_the_how_tos_data_set_counts_what_is_missing(chexpert: Path) -> None:
    """As every other."""
    (chexpert / "valid" / "patient64541" / "study1" / "view1_frontal.jpg").unlink()
    _, summary = written(known_sources()["chexpert"], chexpert)
    assert problems_of(summary) == {"missing_image": (1, ["valid/patient64541/study1/view1_frontal.jpg"])}


def test_manifests_of_several_sets_are_trained_on_together(tmp_path: Path) -> None:
    """Keys of patients differ by source, except where one set has the other's patients."""
    write_manifest(source_of("nih"), Published(path=nih_folder(tmp_path / "nih")), tmp_path / "a")
    write_manifest(source_of("kermany"), Published(path=kermany_folder(tmp_path / "kermany")), tmp_path / "b")
    write_manifest(source_of("rsna"), Published(path=rsna_folder(tmp_path / "rsna")), tmp_path / "c")
    samples = read_samples(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    keys = {
        name: {sample.patient for sample in samples if sample.source == name} for name in ("nih", "kermany", "rsna")
    }
    assert keys["nih"] & keys["rsna"] == {"nih/nih00001"}
    assert not keys["nih"] & keys["kermany"]
    # What a bundle's card says of its patients holds for the manifests that come from the published sets.
    assert split_of("nih/nih00001") == "validation"


def invoke(words: list[str]) -> Any:
    """Run the command as the command line does."""
    app = Typer()
    app.command()(manifest)
    return CliRunner().invoke(app, words, catch_exceptions=False, env={"COLUMNS": "200"})


def test_command_writes_the_folder_and_prints_the_report(tmp_path: Path) -> None:
    """Exit status 0 in spite of problems, 1 with --strict."""
    folder = nih_folder(tmp_path / "nih")
    replace_in(folder / "Data_Entry_2017.csv", "058Y,M,PA", "411Y,M,PA")
    words = ["--source", "nih", "--folder", str(folder), "--output"]
    result = invoke([*words, str(tmp_path / "one")])
    assert result.exit_code == 0
    assert "nih: 3 images of 2 patients, 0 masks, 1 boxes" in result.stdout
    assert "Problems: 1 x implausible_age" in result.stdout
    assert "00000001_000.png: 411Y" in result.stdout
    assert invoke([*words, str(tmp_path / "two"), "--strict"]).exit_code == 1
    assert len(read_samples(tmp_path / "two")) == 3
    assert json.loads((tmp_path / "one" / "report.json").read_text())["source"] == "nih"


def test_strict_is_content_with_a_clean_folder(tmp_path: Path) -> None:
    """What is left out rightly is no problem."""
    folder = nih_folder(tmp_path / "nih")
    result = invoke(["--source", "nih", "--folder", str(folder), "--output", str(tmp_path / "one"), "--strict"])
    assert result.exit_code == 0
    assert "Problems: none" in result.stdout


def test_unverified_sources_say_so(tmp_path: Path) -> None:
    """Before anything is trained on them."""
    for name, build in (("plco", plco_folder), ("nih", nih_folder)):
        folder, output = build(tmp_path / name), tmp_path / f"{name}-manifest"
        result = invoke(["--source", name, "--folder", str(folder), "--output", str(output)])
        assert ("UNVERIFIED" in result.stdout) == (name == "plco")
    assert source_of("jsrt").unverified


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--source", "mimic"], "choose one of folder, jsrt, kermany, nih, plco, rsna"),
        (["--source", "nih", "--name", "ward7"], "--name and --column go with --source folder"),
        (["--source", "folder", "--name", "ward7", "--column", "file"], "not of the form OURS=THEIRS"),
    ],
)
def test_command_refuses_what_it_cannot_do(tmp_path: Path, words: list[str], said: str) -> None:
    """With what there is."""
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        invoke([*words, "--folder", str(tmp_path), "--output", str(tmp_path / "one")])


def test_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    """With the table that it should have."""
    with pytest.raises(DataError, match=r"has no Data_Entry_2017_v2020\.csv or Data_Entry_2017\.csv"):
        write_manifest(source_of("nih"), Published(path=tmp_path), tmp_path / "one")
    with pytest.raises(DataError, match="is not a folder"):
        write_manifest(source_of("nih"), Published(path=tmp_path / "none"), tmp_path / "one")
    with pytest.raises(DataError, match="no reader is known for wingspan"):
        write_manifest(source_of("wingspan"), Published(path=tmp_path), tmp_path / "one")


def test_table_without_a_column_is_refused(tmp_path: Path) -> None:
    """Nothing can be made of it."""
    folder = nih_folder(tmp_path / "nih")
    replace_in(folder / "Data_Entry_2017.csv", "Patient Age", "Years")
    with pytest.raises(DataError, match="has no column 'Patient Age'"):
        write_manifest(source_of("nih"), Published(path=folder), tmp_path / "one")


def test_table_that_is_none_is_refused(tmp_path: Path) -> None:
    """Saved in another encoding."""
    folder = nih_folder(tmp_path / "nih")
    table = (folder / "Data_Entry_2017.csv").read_bytes()
    (folder / "Data_Entry_2017.csv").write_bytes(table.replace(b"No Finding", "Übersicht".encode("latin-1")))
    with pytest.raises(DataError, match="is not CSV in UTF-8"):
        write_manifest(source_of("nih"), Published(path=folder), tmp_path / "one")


def test_nothing_usable_is_an_error_and_leaves_no_manifest(tmp_path: Path) -> None:
    """It names what went wrong most."""
    folder = nih_folder(tmp_path / "nih")
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"nothing in .* can be used as nih: 3 times broken_image"):
        write_manifest(source_of("nih"), Published(path=folder), tmp_path / "one")
    assert not (tmp_path / "one" / "manifest.csv").exists()
    assert json.loads((tmp_path / "one" / "report.json").read_text())["problems"]["broken_image"]["count"] == 3


def test_manifest_is_never_written_over(tmp_path: Path) -> None:
    """Somebody may have trained on it."""
    folder = nih_folder(tmp_path / "nih")
    write_manifest(source_of("nih"), Published(path=folder), tmp_path / "one")
    before = (tmp_path / "one" / "manifest.csv").read_bytes()
    with pytest.raises(DataError, match=r"has a manifest\.csv already"):
        write_manifest(source_of("nih"), Published(path=folder), tmp_path / "one")
    assert (tmp_path / "one" / "manifest.csv").read_bytes() == before


def test_broken_images_are_found_by_reading_them(tmp_path: Path) -> None:
    """A header is whole long before the pixels are."""
    folder = nih_folder(tmp_path / "nih")
    path = folder / "images_001" / "images" / "00000001_000.png"
    path.write_bytes(path.read_bytes()[:60])
    (folder / "images_006" / "images" / "00013118_008.png").write_bytes(b"no image")
    seen: list[None] = []
    whole = write_manifest(
        source_of("nih"), Published(path=folder), tmp_path / "one", progress=lambda: seen.append(None)
    )
    header = write_manifest(source_of("nih"), Published(path=folder), tmp_path / "two", decode=False)
    assert problems_of(whole)["broken_image"] == (2, ["00000001_000", "00013118_008"])
    assert problems_of(header)["broken_image"] == (1, ["00013118_008"])
    assert len(seen) == 3


def test_folder_may_be_named_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is good from everywhere."""
    nih_folder(tmp_path / "nih")
    monkeypatch.chdir(tmp_path)
    write_manifest(source_of("nih"), Published(path=Path("nih")), Path("one"))
    monkeypatch.chdir("/")
    assert len(read_samples(tmp_path / "one")) == 3


def test_fault_of_the_machine_is_no_broken_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops, where the rest of the data set would be left out."""

    def failing(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("cxr_triage.training.sources.manifest.read_image", failing)
    with pytest.raises(OSError, match="Input/output error"):
        write_manifest(source_of("nih"), Published(path=nih_folder(tmp_path / "nih")), tmp_path / "one")
    assert not (tmp_path / "one" / "manifest.csv").exists()


def test_report_names_the_first_few_and_counts_all(tmp_path: Path) -> None:
    """Five names; the count is of all."""
    folder = nih_folder(tmp_path / "nih")
    for number in range(8):
        grey_image(folder / "images_012" / f"0003{number:04d}_000.png")
    _, summary = written(source_of("nih"), folder)
    count, first = problems_of(summary)["unlisted_image"]
    assert (count, len(first)) == (8, 5)
