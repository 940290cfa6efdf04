"""The commands around files: sealing and unsealing them, and models that leave signed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from affidavit.cli.common import DEFAULT_WORKSPACE, Json, Where, open_workspace, print_json, progress
from affidavit.errors import UsageError


def add_commands(app: typer.Typer) -> None:
    """Add ``seal``, ``unseal``, ``sign`` and ``verify-model``."""
    app.command()(seal)
    app.command()(unseal)
    app.command()(sign)
    app.command("verify-model")(verify_model)


def seal(
    source: Annotated[Path, typer.Argument(help="The file to encrypt.")],
    target: Annotated[Path, typer.Argument(help="The sealed file to write.")],
    workspace: Where = DEFAULT_WORKSPACE,
    as_json: Json = False,
) -> None:
    """Encrypt a file of any size under the workspace's keys."""
    _convert("seal_file", "sealed", source, target, workspace, as_json)


def unseal(
    source: Annotated[Path, typer.Argument(help="The sealed file.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    workspace: Where = DEFAULT_WORKSPACE,
    as_json: Json = False,
) -> None:
    """Decrypt a sealed file; it is written only after every byte was checked."""
    _convert("unseal_file", "unsealed", source, target, workspace, as_json)


def sign(
    version: Annotated[str, typer.Argument(help="The promoted version, such as credit-risk@production.")],
    folder: Annotated[Path, typer.Argument(help="The folder to write; it must not be there yet.")],
    workspace: Where = DEFAULT_WORKSPACE,
    as_json: Json = False,
) -> None:
    """Hand over a model's files, signed as the OpenSSF tool model_signing verifies; gates and approvals come first, as with any target."""
    with open_workspace(workspace) as opened:
        found = opened.versions.get(version)
        with opened.deploy(found, target="signed-folder", folder=folder):
            key, signature = folder.with_name(f"{folder.name}.pem"), folder / "model.sig"
    if as_json:
        print_json({"version": str(found), "folder": folder, "signature": signature, "key": key})
        return
    typer.echo(f"Signed {found} in {folder}. Either of these verifies it:")
    place, mark, public = (shlex.quote(str(path)) for path in (folder, signature, key))
    typer.echo(f"  affidavit verify-model {place} --key {public}")
    typer.echo(f"  model_signing verify key {place} --signature {mark} --public_key {public}")


def verify_model(
    folder: Annotated[Path, typer.Argument(help="The model's folder.")],
    key: Annotated[Path, typer.Option(help="The signer's public key (PEM), from the signer.")],
    signature: Annotated[Path | None, typer.Option(help="The signature; default: model.sig in the folder.")] = None,
    as_json: Json = False,
) -> None:
    """Check that a signed model folder is what was signed: offline, with the core install."""
    from affidavit.plugins import bundled_registry

    try:
        pem = key.read_bytes()
    except OSError as error:
        raise UsageError(f"'{key}' cannot be read: {error.strerror}.", hint="Check the path.") from None
    files = bundled_registry().get("service", "verify_model")(folder, pem, signature=signature)
    if as_json:
        print_json({"files": files})
    else:
        typer.echo(f"All {len(files)} files of {folder} are what was signed.")


def _convert(service: str, done: str, source: Path, target: Path, workspace: str, as_json: bool) -> None:
    total = source.stat().st_size if source.is_file() else None
    with open_workspace(workspace) as opened, progress(source.name, total) as told:
        size = opened.service(service)(source, target, opened.keyring, progress=lambda done: told(done, total))
    if as_json:
        print_json({"bytes": size, "target": target})
    else:
        typer.echo(f"{size} bytes {done} into {target}.")
