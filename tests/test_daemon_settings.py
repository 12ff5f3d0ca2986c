"""Settings: where they come from, and what is refused."""

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from cxr_triage.daemon.emission import require_fonts
from cxr_triage.daemon.reference import REPEATED, example_configuration, reference_page
from cxr_triage.daemon.results.profiles import FLOOR, OHIF, ReportForm
from cxr_triage.daemon.settings import Settings, load_settings
from cxr_triage.model.bundle import read_card
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.findings import ABNORMALITY_BY_NAME
from cxr_triage.model.priority import Level, Mode, Policy
from cxr_triage.storage.result_records import ObjectKind

REFERENCE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
STOW = '[[destination]]\nname = "web"\nstow_url = "https://h/studies"\n'
MODALITY = '[[modality]]\nae_title = "XRAY1"\nhost = "192.0.2.9"\nport = 104\n'
PACS = '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "192.0.2.1"\nport = 104\n'


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without our variables, in an empty folder."""
    for name in os.environ:
        if name.startswith("CXR_TRIAGE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def _load(folder: Path, text: str) -> Settings:
    file = folder / "cxr-triage.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def _refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        _load(folder, text)
    return str(refused.value)


def test_everything_has_a_default(tmp_path: Path) -> None:
    """Without file and variables the service runs on loopback, below the working directory."""
    settings = load_settings()
    assert (settings.dicom.ae_title, settings.dicom.host, settings.dicom.port) == ("CXRTRIAGE", "127.0.0.1", 11112)
    assert (settings.worklist.port, settings.web.host, settings.web.port) == (11113, "127.0.0.1", 8080)
    assert (settings.inbox_folder, settings.run_folder) == (tmp_path / "inbox", tmp_path / "run")
    assert settings.database_url == f"sqlite:///{tmp_path}/triage.db"
    assert (settings.bundle_folder, settings.destinations, settings.worklist.enabled) == (None, (), False)
    assert settings.policy() == Policy(severity=dict.fromkeys(read_card(None).not_for_triage, 0.0))


def test_a_file_is_read(tmp_path: Path) -> None:
    """Tables and the repeated table."""
    settings = _load(tmp_path, f'[dicom]\nae_title = "HERE "\nport = 104\n{PACS}')
    assert (settings.dicom.ae_title, settings.dicom.port) == ("HERE", 104)
    assert [(each.name, each.ae_title, each.port, each.profile) for each in settings.destinations] == [
        ("pacs", "PACS", 104, "air")
    ]


def test_the_environment_wins(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    """Over the file, key by key; lists and tables are JSON."""
    environment.setenv("CXR_TRIAGE_DICOM__PORT", "4242")
    environment.setenv("CXR_TRIAGE_DICOM__ALLOWED_AE_TITLES", '["CR1", "DX2"]')
    environment.setenv("CXR_TRIAGE_WORKLIST__SEVERITY", '{"Mass": 1}')
    environment.setenv("CXR_TRIAGE_DESTINATION", '[{"name": "a", "ae_title": "A", "host": "h", "port": 1}]')
    settings = _load(tmp_path, f'[dicom]\nae_title = "HERE"\nport = 104\n{PACS}')
    assert (settings.dicom.ae_title, settings.dicom.port) == ("HERE", 4242)
    assert settings.dicom.allowed_ae_titles == ("CR1", "DX2")
    assert settings.policy().severity["Mass"] == 1
    assert [each.name for each in settings.destinations] == ["a"]


def test_the_file_may_be_named_by_a_variable(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    """CXR_TRIAGE_CONFIG, when nothing else is said."""
    (tmp_path / "named.toml").write_text("[web]\nport = 8081\n")
    environment.setenv("CXR_TRIAGE_CONFIG", str(tmp_path / "named.toml"))
    assert load_settings().web.port == 8081


def test_relative_paths_start_at_the_root_and_the_root_at_the_file(tmp_path: Path) -> None:
    """Wherever the command is called from."""
    (tmp_path / "etc").mkdir()
    settings = _load(
        tmp_path / "etc",
        '[storage]\nroot = "../data"\ndatabase = "sqlite:///x/y.db"\noutbox = "/out"\n[model]\nbundle = "b"\n',
    )
    root = tmp_path / "data"
    assert (settings.storage.root, settings.inbox_folder, settings.outbox_folder) == (
        root,
        root / "inbox",
        Path("/out"),
    )
    assert (settings.database_url, settings.bundle_folder) == (f"sqlite:///{root}/x/y.db", root / "b")


def test_absolute_and_foreign_databases_stay_as_they_are(tmp_path: Path) -> None:
    """Only a relative SQLite file is resolved."""
    for url in ("sqlite:////var/lib/x.db", "postgresql+psycopg://u:p@h/n"):
        assert _load(tmp_path, f'[storage]\ndatabase = "{url}"\n').database_url == url


def test_the_policy_is_what_the_site_says(tmp_path: Path) -> None:
    """What is left out keeps its default."""
    policy = _load(
        tmp_path,
        '[worklist]\nmode = "advise"\nraise_to = "ROUTINE"\n'
        "severity = { Hernia = 0.5 }\nmaximum_wait_hours = { LOW = 1.5 }\n",
    ).policy()
    assert (policy.mode, policy.raise_to) == (Mode.ADVISE, Level.ROUTINE)
    assert (policy.severity["Hernia"], policy.severity["Effusion"]) == (0.5, Policy().severity["Effusion"])
    assert policy.maximum_wait == {**Policy().maximum_wait, Level.LOW: timedelta(hours=1.5)}


def test_a_label_that_is_not_for_triage_moves_something_only_where_the_site_says_so(tmp_path: Path) -> None:
    """The bundle's card speaks where the site is silent."""
    unfit = min(read_card(None).not_for_triage)
    assert load_settings().policy().severity[unfit] == 0
    assert _load(tmp_path, f"[worklist]\nseverity = {{ {unfit} = 0.3 }}\n").policy().severity[unfit] == 0.3


PROFILE = """
[[profile]]
name = "ward"
like = "ohif"
objects = ["SEG", "PR", "SR"]
series_descriptions = { SEG = "KI: Lungen und Herz, nur Forschung" }
series_numbers = { SR = 77 }
colours = { heart = "#0102ff" }
opacity = 0.5
capture_pixels = 512
font = "letters.ttf"
notice = "Testbetrieb"
language = "de"
meanings = { "SCT:60046008" = "Erguss" }
stand_ins = { SEG = "SC", "comprehensive 3d" = "basic text" }
"""


def test_a_site_makes_a_profile_of_its_own(tmp_path: Path) -> None:
    """Like one of ours but for what it says."""
    settings = _load(tmp_path, PROFILE + PACS + 'profile = "ward"\n')
    ward = settings.profiles["ward"]
    assert settings.destinations[0].profile == "ward"
    assert (ward.nominal_plane, ward.coordinates_everywhere, ward.report) == (True, True, OHIF.report)
    assert ward.objects == {ObjectKind.SEG, ObjectKind.PR, ObjectKind.SR}
    assert ward.series_description(ObjectKind.SEG) == "KI: Lungen und Herz, nur Forschung"
    assert ward.series_description(ObjectKind.SR) == OHIF.series_description(ObjectKind.SR)
    assert (ward.series_number(ObjectKind.SR), ward.series_number(ObjectKind.SEG)) == (77, 9001)
    assert (ward.colour("heart"), ward.colour("left_lung")) == ((1, 2, 255), OHIF.colour("left_lung"))
    assert (ward.opacity, ward.capture_pixels, ward.notice) == (0.5, 512, "Testbetrieb")
    assert ward.font == str(tmp_path / "letters.ttf")
    assert ward.stand_ins == {ObjectKind.SEG: ObjectKind.SC, ReportForm.COMPREHENSIVE_3D: ReportForm.BASIC_TEXT}
    meanings = [ward.meaning(ABNORMALITY_BY_NAME[label].code) for label in ("Effusion", "Edema")]
    assert meanings == ["Erguss", "Lungenödem"]


def test_a_profile_that_says_nothing_is_like_ours(tmp_path: Path) -> None:
    """But for its name."""
    settings = _load(tmp_path, '[[profile]]\nname = "ours"\nlike = "floor"\n')
    assert settings.profiles["ours"] == dataclasses.replace(FLOOR, name="ours")


def test_a_font_is_tried_before_anything_is_drawn(tmp_path: Path) -> None:
    """A file that is missing, or no font, is named."""
    settings = _load(tmp_path, PROFILE)
    with pytest.raises(ConfigurationError, match=r"'ward'.*letters\.ttf"):
        require_fonts(settings.profiles.values())


REFUSED: Mapping[str, tuple[str, list[str]]] = {
    "unknown key": ("[dicom]\nprot = 1\n", ["dicom.prot = 1", "did you mean dicom.port?"]),
    "unknown table": ("[dicon]\nport = 1\n", ["dicon", "did you mean dicom?"]),
    "port too high": ("[dicom]\nport = 70000\n", ["dicom.port = 70000", "65535"]),
    "port zero": ("[web]\nport = 0\n", ["web.port = 0"]),
    "port no number": ('[web]\nport = "http"\n', ["web.port = 'http'", "integer"]),
    "AE title too long": ('[dicom]\nae_title = "SEVENTEEN_LETTERS"\n', ["dicom.ae_title", "17", "PS3.5 6.2"]),
    "AE title empty": ('[dicom]\nae_title = "  "\n', ["dicom.ae_title = '  '"]),
    "AE title with backslash": ("[dicom]\nae_title = 'A\\B'\n", ["dicom.ae_title", "backslash"]),
    "AE title of a destination": (PACS.replace('"PACS"', '"Ä"'), ["destination.0.ae_title = 'Ä'"]),
    "destination without port": (
        '[[destination]]\nname = "a"\nae_title = "A"\nhost = "h"\n',
        ["destination.0", "write ae_title, host and port (C-STORE), or stow_url (STOW-RS)"],
    ),
    "destination by both ways": (PACS + 'stow_url = "https://h/studies"\n', ["destination.0", "not both"]),
    "token without an address": (PACS + 'stow_token_file = "t"\n', ["destination.0", "need stow_url"]),
    "commitment by STOW-RS": (STOW + "commitment = true\n", ["destination.0", "STOW-RS knows no storage commitment"]),
    "token and password": (STOW + 'stow_token_file = "t"\nstow_password_file = "p"\n', ["destination.0", "not both"]),
    "token in the clear": (
        STOW.replace("https", "http") + 'stow_token_file = "t"\n',
        ["destination.0", "a token or password needs https"],
    ),
    "password in an address": (
        STOW.replace("//", "//user:hunter2@"),
        ["destination.0.stow_url = 'https://user:***@h/studies'", "stow_password_file"],
    ),
    "address that is none": (STOW.replace("https", "ftp"), ["destination.0.stow_url", "https://HOST/PATH/studies"]),
    "commitment of images by STOW-RS": (
        STOW + '[dicom]\ncommitment = true\ncommitment_destination = "web"\n' + MODALITY,
        ["dicom.commitment_destination = 'web'", "STOW-RS"],
    ),
    "stand-in for itself": (
        '[[profile]]\nname = "w"\nstand_ins = { SEG = "PR", PR = "SEG" }\n',
        ["profile.0.stand_ins", "would stand in for itself"],
    ),
    "stand-in that says something else": (
        '[[profile]]\nname = "w"\nstand_ins = { SEG = "basic text" }\n',
        ["profile.0.stand_ins", "'basic text' does not say what 'SEG' says"],
    ),
    "destination twice": (PACS + PACS, ["destination.name = 'pacs'", "twice"]),
    "modality twice": (
        '[[modality]]\nae_title = "DX1"\nhost = "dx1"\nport = 104\n' * 2,
        ["modality.ae_title = 'DX1'", "twice", "one address"],
    ),
    "subscriber twice": (
        '[[ups_subscriber]]\nae_title = "READER"\nhost = "reader"\nport = 104\n' * 2,
        ["ups_subscriber.ae_title = 'READER'", "twice", "one address"],
    ),
    "destination is ourselves": (
        PACS.replace("192.0.2.1", "127.0.0.1").replace("104", "11112"),
        ["destination 'pacs'", "our own DICOM port"],
    ),
    "unknown profile": (PACS + 'profile = "moon"\n', ["destination.profile = 'moon'", "air, ohif"]),
    "profile named like ours": ('[[profile]]\nname = "air"\n', ["profile.name = 'air'", "is taken"]),
    "profile twice": ('[[profile]]\nname = "x"\n[[profile]]\nname = "x"\n', ["profile.name = 'x'", "is taken"]),
    "profile like none": ('[[profile]]\nname = "x"\nlike = "moon"\n', ["profile.0.like = 'moon'", "weasis"]),
    "profile of no object": ('[[profile]]\nname = "x"\nobjects = ["PDF"]\n', ["profile.0.objects", "PDF", "SEG"]),
    "profile's colour": (
        '[[profile]]\nname = "x"\ncolours = { heart = "red" }\n',
        ["profile.0.colours.heart = 'red'", "#rrggbb"],
    ),
    "profile's description": (
        f'[[profile]]\nname = "x"\nseries_descriptions = {{ SEG = "{"x" * 57}" }}\n',
        ["profile.0.series_descriptions.SEG", "56", "PS3.5 6.2"],
    ),
    "profile's meaning": (
        '[[profile]]\nname = "x"\nmeanings = { "SCT:1" = " " }\n',
        ["profile.0.meanings.SCT:1", "PS3.3 8.3"],
    ),
    "unknown label": ("[worklist]\nseverity = { Mas = 1 }\n", ["worklist.severity", "Mas", "Mass"]),
    "severity above one": ("[worklist]\nseverity = { Mass = 2 }\n", ["worklist.severity.Mass = 2"]),
    "findings may not give STAT": ('[worklist]\nraise_to = "STAT"\n', ["worklist.raise_to = 'STAT'", "only a person"]),
    "unknown level": ("[worklist]\nmaximum_wait_hours = { SOON = 1 }\n", ["worklist.maximum_wait_hours.SOON"]),
    "no wait at all": ("[worklist]\nmaximum_wait_hours = { LOW = 0 }\n", ["worklist.maximum_wait_hours.LOW = 0"]),
    "half a RIS": ('[ris]\nhost = "ris"\n', ["write host, port and ae_title"]),
    "our own worklist as RIS": (
        '[ris]\nhost = "localhost"\nport = 11113\nae_title = "RIS"\n',
        ["ris.port = 11113", "our own worklist port"],
    ),
    "our own title as RIS": (
        '[ris]\nhost = "ris"\nport = 104\nae_title = "CXRLIST"\n',
        ["ris.ae_title = 'CXRLIST'", "is our own"],
    ),
    "unknown mode": ('[worklist]\nmode = "on"\n', ["worklist.mode = 'on'", "reorder"]),
    "clashing ports": ("[web]\nport = 11112\n", ["web.port = 11112", "dicom.port"]),
    "clashing ports by wildcard": (
        '[worklist]\nenabled = true\nhost = "0.0.0.0"\nport = 8080\n',
        ["worklist.port = 8080", "web.port"],
    ),
    "open web port": ('[web]\nhost = "0.0.0.0"\n', ["web.host = '0.0.0.0'", "web.allow_remote = true"]),
    "other database": ('[storage]\ndatabase = "mysql://h/n"\n', ["storage.database = 'mysql://h/n'", "sqlite:///"]),
    "database in memory": ('[storage]\ndatabase = "sqlite:///:memory:"\n', ["storage.database", "not in memory"]),
    "lease too short": ("[infer]\nlease_seconds = 60\n", ["lease_seconds", "deadline_seconds"]),
    "not TOML": ("[dicom\n", ["cxr-triage.toml", "is not TOML"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, case: str) -> None:
    """Key, value, reason; and what to do."""
    text, parts = REFUSED[case]
    message = _refusal(tmp_path, text)
    assert [part for part in parts if part not in message] == []


def test_a_disabled_port_clashes_with_nothing(tmp_path: Path) -> None:
    """The modality worklist is off by default."""
    assert _load(tmp_path, "[worklist]\nport = 8080\n").worklist.port == 8080


def test_the_web_port_is_opened_on_purpose_only(tmp_path: Path) -> None:
    """With allow_remote it may be."""
    assert _load(tmp_path, '[web]\nhost = "0.0.0.0"\nallow_remote = true\n').web.host == "0.0.0.0"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CXR_TRIAGE_DICOM__PROT", "1", "did you mean CXR_TRIAGE_DICOM__PORT?"),
        ("CXR_TRIAGE_DICOM_PORT", "1", "did you mean CXR_TRIAGE_DICOM__PORT?"),
        ("cxr_triage_nonsense", "1", "cxr_triage_nonsense sets nothing"),
        ("CXR_TRIAGE_FOO", "1", "CXR_TRIAGE_FOO sets nothing: remove it"),
        ("CXR_TRIAGE_DICOM__PORT", "x", "dicom.port = 'x'"),
        ("CXR_TRIAGE_DESTINATION", "pacs", "JSON"),
        ("CXR_TRIAGE_DICOM__ALLOWED_AE_TITLES", "A,B", "JSON"),
    ],
)
def test_variables_are_refused_like_keys(environment: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    """A misspelt variable would otherwise be passed over in silence."""
    environment.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert expected in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Naming it."""
    with pytest.raises(ConfigurationError, match=r"missing\.toml: cannot be read"):
        load_settings(tmp_path / "missing.toml")


def test_passwords_are_never_printed(tmp_path: Path) -> None:
    """Neither by a settings object nor by a refusal."""
    settings = _load(tmp_path, '[storage]\ndatabase = "postgresql+psycopg://u:hunter2@h/n?password=hunter2"\n')
    refusals = [
        _refusal(tmp_path, '[storage]\ndatabase = "postgres://u:hunter2@h/n"\n'),
        _refusal(tmp_path, '[storage]\ndatabsae = "postgresql+psycopg://u:hunter2@h/n"\n'),
        _refusal(tmp_path, '[storage]\npassword = "hunter2"\n'),
        _refusal(tmp_path, '[storage]\ndatabase = "postgres://u:hunter2@with@at@h/n"\n'),
    ]
    shown = "\n".join([repr(settings), settings.printable_database, *refusals])
    assert "hunter2" not in shown
    assert settings.printable_database == "postgresql+psycopg://u:***@h/n?password=***"


@pytest.mark.parametrize("key", ["root", "inbox", "outbox", "run"])
def test_an_unwritable_folder_is_refused(tmp_path: Path, key: str) -> None:
    """A file in its place cannot be written into, whoever asks."""
    (tmp_path / "taken").write_text("")
    settings = _load(tmp_path, f'[storage]\n{key} = "taken"\n')
    with pytest.raises(ConfigurationError) as refused:
        settings.prepare_folders()
    assert f"storage.{key} = '{tmp_path / 'taken'}' cannot be written" in str(refused.value)


def test_folders_are_made(tmp_path: Path) -> None:
    """With their parents, and nothing is left in them."""
    _load(tmp_path, '[storage]\nroot = "a/b"\n').prepare_folders()
    assert sorted(path.name for path in (tmp_path / "a" / "b").rglob("*")) == ["inbox", "outbox", "run"]


def test_settings_do_not_change() -> None:
    """Nobody turns a knob at run time."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings().dicom.port = 1


def test_the_example_is_the_defaults(tmp_path: Path) -> None:
    """What `config example` prints can be used, and says what would hold without it."""
    assert _load(tmp_path, example_configuration()) == load_settings()


def test_the_example_s_destination_can_be_switched_on(tmp_path: Path) -> None:
    """Taking away one comment sign per line is enough."""
    lines = example_configuration().splitlines()
    start = lines.index("# [[destination]]")
    end = next(number for number in range(start, len(lines)) if not lines[number])
    lines[start:end] = [line.removeprefix("# ") for line in lines[start:end]]
    assert [each.name for each in _load(tmp_path, "\n".join(lines)).destinations] == ["pacs"]


def test_every_setting_is_described() -> None:
    """The description is the reference."""
    tables = tomllib.loads(example_configuration())
    assert [name for name in Settings.model_fields if name not in REPEATED and name not in tables] == []
    assert "None" not in reference_page()


def test_the_reference_page_is_up_to_date() -> None:
    """`cxr-triage config reference > docs/reference/settings.md` makes it so."""
    assert REFERENCE.read_text(encoding="utf-8") == reference_page()
