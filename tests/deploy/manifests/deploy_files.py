"""What the tests of deploy/ have in common: reading files, and what the server says about its flags."""

import os
import pathlib
import re
import subprocess

import yaml

SOURCE_DIR = pathlib.Path(os.environ["SLUICE_SOURCE_DIR"])
DEPLOY = SOURCE_DIR / "deploy"
GENERATION = "sluice.v1.Generation"
# The server's own time after --drain_timeout: the last messages, then the connections.
FAREWELL_SECONDS = 5


class Loader(yaml.SafeLoader):
    """Knows Compose's !reset, which removes what the file below says: None, which no field is otherwise."""


Loader.add_constructor("!reset", lambda loader, node: None)


def read_yaml(path):
    """The documents of a file."""
    documents = yaml.load_all(path.read_text(encoding="utf-8"), Loader)
    return [document for document in documents if document is not None]


def read_compose(*names):
    """These files, each put on those before it. Lists, which Compose appends, are in one of them only."""

    def put_on(below, above, where):
        for key, value in above.items():
            if value is None:
                below.pop(key, None)
            elif isinstance(value, dict) and key in below:
                put_on(below[key], value, f"{where}/{key}")
            elif key in below:
                raise AssertionError(f"{where}/{key} is in two files")
            else:
                below[key] = value

    result = {}
    for name in names:
        (document,) = read_yaml(DEPLOY / name)
        put_on(result, document, name)
    return result


# What may be started: of each the files.
COMPOSE = {"one server": ("compose.yaml",), "two behind Envoy": ("compose.yaml", "compose.envoy.yaml")}


def project_version():
    text = (SOURCE_DIR / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(r"project\(sluice VERSION (\S+)", text).group(1)


def server_flags():
    """Name to default, from --help."""
    text = subprocess.run([os.environ["SLUICE_SERVER"], "--help"], capture_output=True, text=True, check=True).stdout
    return {name: default for name, default in re.findall(r"^  --(\w+)(?: [^ =\n]+)?(?:=(\S+))?", text, re.MULTILINE)}


def parse_flags(arguments):
    """--name=value to a dictionary; each of them must be a flag of the server."""
    known = server_flags()
    result = {}
    for argument in arguments:
        match = re.fullmatch(r"--(\w+)=(.*)", argument)
        if match is None or match.group(1) not in known:
            raise AssertionError(f"{argument} is no flag of sluice-server")
        if match.group(1) in result:
            raise AssertionError(f"{argument} comes twice")
        result[match.group(1)] = match.group(2)
    return result


def local(flags, **replaced):
    """The flags as arguments of a server on free ports of this machine."""
    flags = {**flags, "listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", **replaced}
    return [f"--{name}={value}" for name, value in flags.items()]


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def bytes_of(text):
    """64Mi, 1GiB, 4096."""
    number, unit = re.fullmatch(r"(\d+)(?:([KMG])i?B?)?", text).groups()
    return int(number) << {None: 0, "K": 10, "M": 20, "G": 30}[unit]


class Dockerfile:
    """The last stage of ours."""

    def __init__(self):
        text = (SOURCE_DIR / "Dockerfile").read_text(encoding="utf-8")
        text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
        self.lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
        self.last_stage = self.lines[max(i for i, line in enumerate(self.lines) if line.startswith("FROM ")):]

    def argument(self, instruction):
        """Of the last such instruction of the last stage."""
        return [line for line in self.last_stage if line.startswith(instruction + " ")][-1].split(" ", 1)[1]

    def environment(self):
        return dict(pair.split("=", 1) for pair in self.argument("ENV").split())

    def health_check(self):
        return re.findall(r'"([^"]*)"', self.argument("HEALTHCHECK").split("CMD", 1)[1])

    def uid(self):
        return int(re.fullmatch(r"(\d+):\d+", self.argument("USER")).group(1))
