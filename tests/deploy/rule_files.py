"""The rules that Prometheus evaluates, as deploy/ has them."""

import os
import pathlib

import yaml

FOLDER = pathlib.Path(os.environ["SLUICE_SOURCE_DIR"]) / "deploy/prometheus/rules"


def groups():
    """All groups, file by file."""
    for path in sorted(FOLDER.glob("*.yaml")):
        yield from yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]


def rules(kind):
    """All rules that have this field, such as `alert`."""
    return [rule for group in groups() for rule in group["rules"] if kind in rule]
