"""Models that leave: the files of a registered version in a folder, with a signature over them."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Any, ClassVar

from affidavit.artifacts import MANIFEST, Artifact, read_artifact
from affidavit.errors import AffidavitError, UsageError
from affidavit.interfaces.deployment import Deployment, HandedOver, Predictor
from affidavit.interfaces.governance import Keyring
from affidavit.predictor import GovernedPredictor
from affidavit.store import Objects, write_atomic, writing
from affidavit_governance.encryption.model_signing import SIGNATURE, sign_folder, signing_key, verify_folder, workspace_public_key


class SignedFolder(Deployment):
    """Hands a model's files over, signed: ``deploy("credit-risk@production", target="signed-folder", folder="out/credit-risk")``.

    As with every target, the policy's gates and approvals come first, and the ledger records it. The public key is written beside the folder,
    as ``out/credit-risk.pem``; receivers should get it by another road.
    """

    type: ClassVar[str] = "signed-folder"

    def deploy(self, predictor: Predictor, *, folder: str | Path | None = None, **options: Any) -> SignedModel:
        """Write the folder; the endpoint that comes back still answers inside governance.

        Raises
        ------
        UsageError
            No folder is named, it or the key beside it is there already, or the model is not registered.
        IntegrityError
            A stored file has changed; nothing is written.
        """
        if folder is None or options:
            raise UsageError("The target 'signed-folder' takes one option: folder, the folder to write.")
        workspace, version = predictor.registered if isinstance(predictor, GovernedPredictor) else (None, None)
        if workspace is None or version is None:
            raise UsageError("Only a registered version can be handed over.", hint="Register the model, and promote the version.")
        target = Path(folder)
        key = target.with_name(f"{target.name}.pem")
        if key.exists():
            raise UsageError(f"'{key}' is there already.", hint="Name a folder that is not, with no such file beside it.")
        sign_artifact(read_artifact(version.artifact, workspace.objects), workspace.objects, workspace.keyring, target)
        public = workspace_public_key(workspace.keyring)
        write_atomic(key, public)
        return SignedModel(predictor, target, public)


class SignedModel(HandedOver):
    """A model that was handed over, signed."""

    def __init__(self, predictor: Predictor, folder: Path, public_key: bytes) -> None:
        super().__init__(predictor, folder)
        self._key = public_key

    def intact(self) -> bool:
        try:
            verify_folder(self.folder, self._key)
        except AffidavitError:
            return False
        return True


def sign_artifact(artifact: Artifact, objects: Objects, keyring: Keyring, folder: Path) -> Path:
    """Write an artifact's files and manifest into a new folder, with their signature; gives the signature's path.

    The folder appears whole or not at all. Its manifest's SHA-256 is the artifact's digest.

    Raises
    ------
    UsageError
        The folder is there already.
    IntegrityError
        A stored file has changed; nothing is written.
    """
    if folder.exists():
        raise UsageError(f"'{folder}' is there already.", hint="Name a folder that is not.")
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    with writing(folder):
        try:
            _write(partial / MANIFEST, objects.get(artifact.digest, purpose="manifest"))
            for name, digest in artifact.file_digests.items():
                _write(partial / name, objects.get(digest, purpose="artifact"))
            sign_folder(partial, signing_key(keyring), name=folder.name)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder / SIGNATURE


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
