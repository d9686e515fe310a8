"""What a server's metrics port says, as a stranger reads it."""

import http.client
import json
import re


def ask(server, path, method="GET"):
    """(status, headers, body) of a request to the metrics port."""
    connection = http.client.HTTPConnection(server.metrics_address)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read().decode()
    headers = dict(response.getheaders())
    connection.close()
    return response.status, headers, body


def experts(server):
    """The object `experts` of /experts.json."""
    return json.loads(ask(server, "/experts.json")[2])["experts"]


def samples(text):
    """(name, labels, value) of every line of a scrape, as they are written."""
    return re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)


def series(text, name):
    """{labels: value} of a family in a scrape; labels are a tuple of values, in the order of their names."""
    found = {}
    for family, labels, value in samples(text):
        if family != name:
            continue
        pairs = sorted(re.findall(r'(\w+)="([^"]*)"', labels))
        found[tuple(label for _, label in pairs)] = float(value)
    return found
