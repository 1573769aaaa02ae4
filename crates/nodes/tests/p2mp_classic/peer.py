"""Both ends of the protocol, written from its description alone: a witness that shares no code with the programs.

peer.py send published|text HOST PORT FILE MSS     sends FILE by stop-and-wait
peer.py receive published|text PORTFILE FILE       receives one file; writes its port to PORTFILE
"""

import os
import socket
import struct
import sys


def checksum(data, order, padding):
    """RFC 768's, over the data alone."""
    if len(data) % 2:
        data += padding
    total = sum(struct.unpack(order + str(len(data) // 2) + "H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Published:
    def segment(self, sequence, data):
        return struct.pack("!IHH", sequence, checksum(data, "!", b"\0"), 0x5555) + data

    def read(self, datagram):
        sequence, check, kind = struct.unpack("!IHH", datagram[:8])
        data = datagram[8:]
        return (sequence, data) if kind == 0x5555 and check == checksum(data, "!", b"\0") else None

    def acknowledgement(self, sequence):
        return struct.pack("!IHH", sequence, 0, 0xAAAA)


class Text:
    def segment(self, sequence, data):
        head = "%s###%s###0101010101010101###" % (format(sequence, "032b"), format(checksum(data, "<", b" "), "016b"))
        return head.encode() + data

    def read(self, datagram):
        # As the dialect's own program does it: fields end at every separator, wherever it stands.
        fields = datagram[:1500].split(b"###")
        sequence, check, kind, data = int(fields[0], 2), int(fields[1], 2), fields[2], fields[3]
        return (sequence, data) if kind == b"0101010101010101" and check == checksum(data, "<", b" ") else None

    def acknowledgement(self, sequence):
        return (format(sequence, "032b") + "###0000000000000000###1010101010101010").encode()


def send(dialect, host, port, path, mss):
    with open(path, "rb") as file:
        content = file.read()
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel.connect((host, int(port)))
    channel.settimeout(0.05)
    sequence = 0
    while True:
        data = content[sequence : sequence + int(mss)]
        while True:
            channel.send(dialect.segment(sequence, data))
            try:
                if channel.recv(1000) == dialect.acknowledgement(sequence):
                    break
            except (socket.timeout, ConnectionRefusedError):
                pass
        if not data:
            return
        sequence += len(data)


def receive(dialect, portfile, path):
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel.bind(("127.0.0.1", 0))
    with open(portfile + ".new", "w") as file:
        file.write(str(channel.getsockname()[1]))
    os.rename(portfile + ".new", portfile)
    expected, last = 0, None
    with open(path, "wb") as file:
        while True:
            datagram, sender = channel.recvfrom(65536)
            segment = dialect.read(datagram)
            if segment is None:
                continue
            sequence, data = segment
            if sequence == expected:
                last, expected = sequence, expected + len(data)
                if not data:
                    file.flush()
                channel.sendto(dialect.acknowledgement(sequence), sender)
                file.write(data)
                if not data:
                    return
            elif last is not None:
                channel.sendto(dialect.acknowledgement(last), sender)


if __name__ == "__main__":
    what, dialect = sys.argv[1], {"published": Published, "text": Text}[sys.argv[2]]()
    {"send": send, "receive": receive}[what](dialect, *sys.argv[3:])
