"""As much of HTTP/2 as it takes to be a client that misbehaves: frames are made by hand and sent as they are."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
# Of SETTINGS (RFC 9113, 6.5.2).
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """`length`: what the frame claims, if not the truth."""
    length = len(payload) if length is None else length
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _number(value, prefix_bits=7):
    """An integer as HPACK writes it behind a prefix of zeros (RFC 7541, 5.1)."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([value])
    result = bytearray([most])
    value -= most
    while value >= 128:
        result.append(value % 128 + 128)
        value //= 128
    result.append(value)
    return bytes(result)


def fields(*pairs):
    """Header fields, each written out: no table, no Huffman code."""
    return b"".join(b"\x00" + _number(len(name)) + name + _number(len(value)) + value for name, value in pairs)


def call_headers(path, *more):
    return fields(
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"test"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    )


def message(payload, compressed=0, length=None):
    """A gRPC message: a byte that says whether it is compressed, its length, itself."""
    return struct.pack(">BI", compressed, len(payload) if length is None else length) + payload


class Connection:
    """A connection on which nothing is sent but what the test says: pings are not answered, windows not opened."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)))
        self._read = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def send(self, *parts):
        """False if the server has closed the connection meanwhile."""
        try:
            self._socket.sendall(b"".join(parts))
            return True
        except OSError:
            return False

    def start_call(self, path, request, *more_headers):
        return self.send(
            PREFACE,
            frame(SETTINGS),
            frame(HEADERS, END_HEADERS, 1, call_headers(path, *more_headers)),
            frame(DATA, END_STREAM, 1, message(request)),
        )

    def upload(self, path, payload):
        """Starts a call and sends `payload` as fast as the server gives room for it. Returns the payload of the GOAWAY
        or RST_STREAM frame with which the server refuses it; b"" if the connection just ends."""
        self.send(PREFACE, frame(SETTINGS), frame(HEADERS, END_HEADERS, 1, call_headers(path)))
        # Of the connection and of the stream (RFC 9113, 6.9.2).
        initial_room = 65535
        room = {0: initial_room, 1: initial_room}
        sent = 0
        while True:
            size = min(*room.values(), 16384, len(payload) - sent)
            if size > 0:
                self.send(frame(DATA, 0, 1, payload[sent:sent + size]))
                sent += size
                room = {stream: left - size for stream, left in room.items()}
                continue
            kind, flags, stream, content = self.next_frame() or (None, 0, 0, b"")
            if kind in (None, GOAWAY, RST_STREAM):
                return content
            if kind == WINDOW_UPDATE:
                room[stream] += int.from_bytes(content, "big")
            elif kind == SETTINGS and flags == 0:
                settings = dict(struct.iter_unpack(">HI", content))
                room[1] += settings.get(INITIAL_WINDOW_SIZE, initial_room) - initial_room
                initial_room = settings.get(INITIAL_WINDOW_SIZE, initial_room)
                self.send(frame(SETTINGS, 1))
            elif kind == PING and flags == 0:
                self.send(frame(PING, 1, 0, content))

    def stop(self):
        """Ends the connection for whoever waits for its frames."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _receive(self):
        try:
            data = self._socket.recv(65536)
        except OSError:
            data = b""
        self._read += data
        return bool(data)

    def next_frame(self):
        """(kind, flags, stream, payload), or None once the server has closed the connection."""
        while len(self._read) < 9 or len(self._read) < 9 + int.from_bytes(self._read[:3], "big"):
            if not self._receive():
                return None
        length = int.from_bytes(self._read[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self._read[3:9])
        payload, self._read = self._read[9:9 + length], self._read[9 + length:]
        return kind, flags, stream, payload

    def await_frame(self, wanted):
        while True:
            got = self.next_frame()
            if got is None or got[0] == wanted:
                return got

    def await_end(self):
        """Reads until the server closes the connection."""
        while self._receive():
            pass

    def finish_sending(self):
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
