"""Viewers from the npm registry: pinned by version and digest, fetched once, kept outside of the repository."""

import base64
import hashlib
import json
import os
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Final

import httpx

REGISTRY: Final = "https://registry.npmjs.org"
#: Name and version -> the registry's `dist.integrity` (Subresource Integrity): what else arrives is not unpacked.
PINNED: Final[dict[str, str]] = json.loads((Path(__file__).parent / "packages.json").read_text(encoding="utf-8"))
FETCH_SECONDS: Final = 600


def package(name: str, version: str) -> Path:
    """Give the folder `dist` of a pinned package, fetched if it is not in the cache."""
    integrity = PINNED[f"{name} {version}"]
    kept = cache() / f"{name.replace('/', '-').lstrip('@')}-{version}-{_short(integrity)}"
    if not kept.exists():
        _unpack(_fetch(name, version, integrity), kept)
    return kept / "package" / "dist"


def cache() -> Path:
    """Where fetched packages stay (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cxr-triage"


def _short(integrity: str) -> str:
    """Part of the folder's name, so that another digest is another folder."""
    return hashlib.sha256(integrity.encode()).hexdigest()[:8]


def _fetch(name: str, version: str, integrity: str) -> bytes:
    address = f"{REGISTRY}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
    answer = httpx.get(address, timeout=FETCH_SECONDS, follow_redirects=True).raise_for_status()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(answer.content).digest()).decode()
    assert digest == integrity, f"{address} is not what packages.json pins: {digest}"
    return answer.content


def _unpack(archive: bytes, kept: Path) -> None:
    """Beside its place first: a folder of that name is whole, whoever else unpacks it now."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        with tarfile.open(fileobj=BytesIO(archive), mode="r:gz") as tar:
            tar.extractall(folder, filter="data")
        whole = Path(folder, "whole")
        whole.mkdir()
        Path(folder, "package").rename(whole / "package")
        try:
            whole.rename(kept)
        except OSError:  # another run was faster
            assert kept.exists()
