"""A cable that takes its time: frames between a host and the bridge arrive later.

python relay.py PORT TAP SECONDS, in the namespace of the bridge. The kernel here has no netem.
"""

import ctypes
import fcntl
import os
import selectors
import socket
import struct
import sys
import time
from collections import deque

IFF_TAP, IFF_NO_PI, TUNSETIFF = 0x0002, 0x1000, 0x400454CA
SIOCETHTOOL = 0x8946
OFFLOADS = {"checksums": 0x17, "segments": 0x1F, "joined segments": 0x24}
LARGEST = 65536


def open_tap(name: str) -> int:
    """Make a TAP device; its file."""
    number = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH14x", name.encode(), IFF_TAP | IFF_NO_PI)
    fcntl.ioctl(number, TUNSETIFF, request)
    return number


def finish_frames(name: str) -> None:
    """Let a host's device send whole frames: a veth leaves checksums and cuts to nobody."""
    with socket.socket() as any_socket:
        for command in OFFLOADS.values():
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def relay(port: str, tap_name: str, delay_s: float) -> None:
    """Pass frames on, in order, each after the delay; for ever."""
    tap = open_tap(tap_name)
    cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    cable.bind((port, 0))
    cable.setblocking(False)
    print("ready", flush=True)
    waiting: deque[tuple[float, bool, bytes]] = deque()
    with selectors.DefaultSelector() as selector:
        selector.register(tap, selectors.EVENT_READ, data=True)
        selector.register(cable, selectors.EVENT_READ, data=False)
        while True:
            pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            for key, _ in selector.select(pause):
                for _ in range(64):
                    try:
                        if key.data:
                            frame = os.read(tap, LARGEST)
                        else:
                            frame, sender = cable.recvfrom(LARGEST)
                            if sender[2] == socket.PACKET_OUTGOING:  # what we sent
                                continue
                    except BlockingIOError:
                        break
                    waiting.append((time.monotonic() + delay_s, key.data, frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, to_cable, frame = waiting.popleft()
                try:
                    if to_cable:
                        cable.send(frame)
                    else:
                        os.write(tap, frame)
                except OSError:  # a full queue loses a frame, as a switch does
                    continue


if __name__ == "__main__":
    if sys.argv[1] == "finish":
        finish_frames(sys.argv[2])
    else:
        relay(sys.argv[1], sys.argv[2], float(sys.argv[3]))
