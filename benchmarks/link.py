"""Two hosts on one machine, and a slow link between them. Linux only, as root.

A host is a network namespace. The link is this process: it carries packets from one host's tun
device to the other's, each after its turn at the link's rate and then after a delay. Packets are
large, so that a link of a gigabit takes little of a core.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

HOSTS, ADDRESSES = ("charlm-1", "charlm-2"), ("10.83.0.1", "10.83.0.2")
DEVICE, MTU = "charlm", 60_000
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SPIN = 1e-4  # seconds: a shorter wait is not left to the system


@contextmanager
def two_hosts(rate: float, delay: float) -> Iterator[None]:
    """Within this context `on_host` runs commands on two hosts.

    rate:   of the link, bits per second in each direction
    delay:  seconds from one host to the other
    """
    for host in HOSTS:
        subprocess.run(["ip", "netns", "add", host], check=True)
    carrier = get_context("fork").Process(target=_carry, args=(rate, delay), daemon=True)
    carrier.start()
    try:
        for host, address in zip(HOSTS, ADDRESSES, strict=True):
            _wait_for_device(host, carrier)
            for command in (
                f"ip addr add {address}/24 dev {DEVICE}",
                f"ip link set dev {DEVICE} mtu {MTU} up",
                "ip link set lo up",
            ):
                subprocess.run(on_host(host, command.split()), check=True)
        yield
    finally:
        carrier.kill()
        carrier.join()
        for host in HOSTS:
            subprocess.run(["ip", "netns", "delete", host], check=True)


def on_host(host: str, command: Sequence[str]) -> list[str]:
    """The command that runs a command on a host."""
    return ["ip", "netns", "exec", host, *command]


def _wait_for_device(host: str, carrier: BaseProcess) -> None:
    command = on_host(host, ["ip", "link", "show", DEVICE])
    while subprocess.run(command, capture_output=True, check=False).returncode:
        assert carrier.is_alive()
        time.sleep(0.05)


def _tun(host: str) -> int:
    """A tun device in the namespace of a host, open for reading and writing whole packets."""
    with Path(f"/run/netns/{host}").open() as namespace:
        assert not ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return device


def _carry(rate: float, delay: float) -> None:
    ends = [_tun(host) for host in HOSTS]
    others = dict(zip(ends, reversed(ends), strict=True))
    free = dict.fromkeys(ends, 0.0)  # when the link from this end has sent all that it had to
    waiting: dict[int, deque[tuple[float, bytes]]] = {end: deque() for end in ends}
    while True:
        due = min((queue[0][0] for queue in waiting.values() if queue), default=None)
        timeout = None if due is None else max(due - time.perf_counter() - SPIN, 0.0)
        readable, _, _ = select.select(ends, [], [], timeout)
        now = time.perf_counter()
        for end in readable:
            packet = os.read(end, MTU)
            free[end] = max(free[end], now) + 8 * len(packet) / rate
            waiting[end].append((free[end] + delay, packet))
        for end, queue in waiting.items():
            while queue and queue[0][0] <= time.perf_counter():
                with suppress(OSError):  # until the other end is up
                    os.write(others[end], queue.popleft()[1])


def measure(megabytes: int = 30) -> tuple[float, float]:
    """The rate of the link in bits per second, and seconds there and back, by plain sockets."""
    receive = (
        "import socket\n"
        f"server = socket.create_server(('{ADDRESSES[0]}', 5000))\n"
        "while True:\n"
        "    peer, _ = server.accept()\n"
        "    while data := peer.recv(1 << 20):\n"
        "        peer.sendall(b'x') if len(data) == 1 or data[-1:] == b'e' else None\n"
    )
    send = (
        "import socket, time\n"
        f"peer = socket.create_connection(('{ADDRESSES[0]}', 5000))\n"
        "times = []\n"
        "for _ in range(20):\n"
        "    start = time.perf_counter(); peer.sendall(b'x'); peer.recv(1)\n"
        "    times.append(time.perf_counter() - start)\n"
        "start = time.perf_counter()\n"
        f"peer.sendall(bytes({megabytes} * 10**6) + b'e'); peer.recv(1)\n"
        f"rate = 8e6 * {megabytes} / (time.perf_counter() - start)\n"
        "print(rate, sorted(times)[10])\n"
    )
    server = subprocess.Popen(on_host(HOSTS[0], ["python3", "-c", receive]))
    time.sleep(0.5)
    ran = subprocess.run(
        on_host(HOSTS[1], ["python3", "-c", send]), check=True, capture_output=True, text=True
    )
    server.kill()
    rate, seconds = map(float, ran.stdout.split())
    return rate, seconds
