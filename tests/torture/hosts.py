"""Hosts on a network that can be cut: network namespaces (Linux, as root).

They have no names, and last while this process holds them or a process runs in them. So nothing
of them remains, whatever ends this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Self

from tests.stage import topologies
from tests.stage.programs import lacks, program

NEW_NETWORK = 0x40000000  # CLONE_NEWNET of <linux/sched.h>
OWN_NETWORK = "/proc/thread-self/ns/net"
libc = ctypes.CDLL(None, use_errno=True)
entered = threading.local()


def call(function: str, *args: int) -> None:
    """:raises OSError: the kernel refuses"""
    if getattr(libc, function)(*args):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Host(topologies.Host):
    """A machine with one network card, isolated until it joins a network."""

    def __init__(self, address: str) -> None:
        self.address = address
        outside = os.open(OWN_NETWORK, os.O_RDONLY)
        try:
            call("unshare", NEW_NETWORK)
            self.network = os.open(OWN_NETWORK, os.O_RDONLY)
            call("setns", outside, NEW_NETWORK)
        finally:
            os.close(outside)

    def __enter__(self) -> Self:
        outside = os.open(OWN_NETWORK, os.O_RDONLY)
        entered.__dict__.setdefault("from", []).append(outside)
        call("setns", self.network, NEW_NETWORK)
        return self

    def __exit__(self, *_: object) -> None:
        outside = entered.__dict__["from"].pop()
        call("setns", outside, NEW_NETWORK)
        os.close(outside)

    def ip(self, *commands: str) -> None:
        """Run commands of iproute2 on this host."""
        with self:
            subprocess.run(
                ["ip", "-batch", "-"],  # noqa: S607 - its folder depends on the system
                input="\n".join(commands),
                text=True,
                check=True,
                capture_output=True,
            )


@contextlib.contextmanager
def network(size: int) -> Iterator[list[Host]]:
    """Hosts that reach each other and nothing else."""
    program("ip")
    hosts: list[Host] = []
    try:
        switch = Host("")
        hosts.append(switch)
        at_the_switch = f"/proc/{os.getpid()}/fd/{switch.network}"
        switch.ip("link add switch type bridge", "link set switch up")
        for n in range(1, size + 1):
            host = Host(f"10.99.0.{n}")
            hosts.append(host)
            host.ip(
                "link set lo up",
                f"link add eth0 type veth peer name to{n} netns {at_the_switch}",
                f"addr add {host.address}/24 dev eth0",
                "link set eth0 up",
                # The rules of a cut must come before the rule of local delivery.
                "rule add pref 2 lookup local",
                "rule del pref 0",
            )
            switch.ip(f"link set to{n} master switch up")
    except (OSError, subprocess.CalledProcessError) as error:
        for host in hosts:
            os.close(host.network)
        lacks(f"no network namespaces on this machine: {error}")
    try:
        yield hosts[1:]
    finally:
        for host in hosts:
            os.close(host.network)


@contextlib.contextmanager
def cut(senders: Sequence[Host], receivers: Sequence[Host]) -> Iterator[None]:
    """Drop all packets of ``senders`` to ``receivers`` silently.

    The other direction stays open: a connection then stalls for want of acknowledgements.
    """
    rules = [f"pref 1 iif eth0 from {sender.address} blackhole" for sender in senders]
    with contextlib.ExitStack() as healing:
        for receiver in receivers:
            receiver.ip(*(f"rule add {rule}" for rule in rules))
            healing.callback(receiver.ip, *(f"rule del {rule}" for rule in rules))
        yield
