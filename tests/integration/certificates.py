"""Certificates for tests, made on the spot with openssl and gone with the folder they are in."""

import pathlib
import subprocess

NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


GOOD_KEY = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
# One that also makes signatures that are outdated.
RSA_KEY = ("rsa:2048",)
# OpenSSL makes one, but does not talk TLS with it.
SHORT_KEY = ("rsa:1024",)


def _new_key(*arguments, key=GOOD_KEY):
    return ("req", "-newkey", *key, "-nodes", *arguments)


class Pair:
    """A certificate and its key, as files."""

    def __init__(self, cert, key):
        self.cert = pathlib.Path(cert)
        self.key = pathlib.Path(key)


class Authority:
    """Signs certificates; `self.cert` is what those who trust it hold."""

    def __init__(self, folder, name="authority", key=GOOD_KEY):
        self._folder = pathlib.Path(folder)
        self.cert = self._folder / f"{name}.pem"
        self._key = self._folder / f"{name}.key"
        subject = f"/CN={name}"
        _openssl(*_new_key("-x509", "-keyout", self._key, "-out", self.cert, "-subj", subject, "-days", "2",
                           key=key))

    def issue(self, name, days=2, digest="sha256"):
        """A certificate for this machine's loopback address. `days` from now it expires: -1 is yesterday."""
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request = self._folder / f"{name}.csr"
        names = self._folder / f"{name}.ext"
        names.write_text(NAMES)
        _openssl(*_new_key("-new", "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}"))
        _openssl("x509", "-req", f"-{digest}", "-in", request, "-CA", self.cert, "-CAkey", self._key, "-CAcreateserial",
                 "-days", days, "-extfile", names, "-out", pair.cert)
        return pair


def self_signed(folder, name="self_signed", key=GOOD_KEY):
    pair = Pair(pathlib.Path(folder) / f"{name}.pem", pathlib.Path(folder) / f"{name}.key")
    _openssl(*_new_key("-x509", "-keyout", pair.key, "-out", pair.cert, "-subj", f"/CN={name}", "-days", "2",
                       "-addext", NAMES, key=key))
    return pair
