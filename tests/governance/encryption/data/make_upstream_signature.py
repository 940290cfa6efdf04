"""How upstream_signature.json was made: ``python make_upstream_signature.py upstream_signature.json`` with model-signing 1.1.1."""

import json
import sys
import tempfile
from pathlib import Path

import model_signing
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

FILES = {"manifest.json": "{}", "a/weights.bin": "weights", "a-b.txt": "text"}


def main():
    key = ec.generate_private_key(ec.SECP256R1())
    with tempfile.TemporaryDirectory() as folder:
        model, private = Path(folder) / "model", Path(folder) / "key.pem"
        for name, content in FILES.items():
            (model / name).parent.mkdir(parents=True, exist_ok=True)
            (model / name).write_text(content)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        config = model_signing.signing.Config().use_elliptic_key_signer(private_key=private)
        config.set_hashing_config(model_signing.hashing.Config().set_ignored_paths(paths=["model.sig"]))
        config.sign(model, model / "model.sig")
        signature = json.loads((model / "model.sig").read_text())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    made = "make_upstream_signature.py with model-signing 1.1.1"
    Path(sys.argv[1]).write_text(json.dumps({"how_made": made, "files": FILES, "public_key": public, "signature": signature}, indent=1))


main()
