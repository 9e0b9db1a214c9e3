"""A certificate for tests, which nobody else trusts. Made by openssl; without it the test is skipped."""

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


class Certificate(NamedTuple):
    """Its files."""

    certificate: str
    key: str

    def server_context(self) -> ssl.SSLContext:
        """For who shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For who trusts it and nothing else."""
        return ssl.create_default_context(cafile=self.certificate)


def make_certificate(folder: Path, *, name: str = "IP:127.0.0.1") -> Certificate:
    """One for a name, such as `DNS:good.example`."""
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    subject = f"/CN={name.partition(':')[2]}"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", subject]
    try:
        files = ["-addext", f"subjectAltName={name}", "-out", certificate, "-keyout", key]
        subprocess.run([*command, *files], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return Certificate(certificate, key)
