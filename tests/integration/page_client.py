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


def series(text, name):
    """{labels: value} of a family in a scrape; labels are a tuple of values, in the order of their names."""
    found = {}
    for labels, value in re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE):
        pairs = sorted(re.findall(r'(\w+)="([^"]*)"', labels))
        found[tuple(label for _, label in pairs)] = float(value)
    return found
