"""Certificates for tests, and who signs them, by the machine's openssl."""

import ssl
import subprocess
from pathlib import Path

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]  # the server's, the client's


def openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def authority(folder: Path, name: str) -> None:
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem",
            "-subj", f"/CN={name}", "-days", "2")  # fmt: skip


def certificate(folder: Path, name: str, signer: str, address: str) -> None:
    """name.key, name.crt, and name.pem with both: what a broker reads."""
    (folder / "extensions").write_text(f"subjectAltName={address}\n")
    openssl(
        folder,
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.csr",
        "-subj",
        f"/CN={name}",
    )
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key", "-CAcreateserial",
            "-days", "2", "-out", f"{name}.crt", "-extfile", "extensions")  # fmt: skip
    (folder / f"{name}.pem").write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())
    (folder / f"{name}.key").chmod(0o600)
