"""A phone that is none: a server that speaks adb's protocol to the real `adb` client.

It stands in for adb's own server and the phones behind it: https://android.googlesource.com has
the protocol in packages/modules/adb (OVERVIEW, SERVICES and SYNC). Commands run in a scratch folder
in place of the phone's root, with the few programs of Android that the benchmarks call; a program
for aarch64 is run by qemu, as a phone's kernel runs it.
"""

import os
import socket
import socketserver
import stat
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

QEMU = "qemu-aarch64 -cpu cortex-a76"
LOADER = "ld-linux-aarch64.so.1"
STDOUT, STDERR, EXIT = 1, 2, 3  # packets of a shell's protocol, version 2
PROPERTIES = {
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.manufacturer": "Example",
    "ro.product.model": "Phone 1",
    "ro.build.version.release": "15",
    "ro.soc.model": "EX1000",
}
REPORTS = {
    "thermalservice": "IsStatusOverride: false\nThermal Status: 1\n",
    "battery": "Current Battery Service state:\n  level: 83\n  temperature: 312\n",
}
FREQUENCIES = (1_800_000, 1_800_000, 2_400_000, 3_000_000)  # kHz, of each core


@dataclass
class Phone:
    """root: its files; state: as adb calls it; full: no space is left; loses, kills: what a command
    must hold to break the connection, or to be killed."""

    root: Path
    state: str = "device"
    properties: dict[str, str] = field(default_factory=lambda: dict(PROPERTIES))
    full: bool = False
    loses: str | None = None
    kills: str | None = None
    commands: list[str] = field(default_factory=list)

    def install(self) -> None:
        """Fill its root."""
        programs = self.root / "system" / "bin"
        programs.mkdir(parents=True)
        cases = "".join(f"{key}) echo '{value}';;\n" for key, value in self.properties.items())
        reports = "".join(f"{key}) echo '{value}';;\n" for key, value in REPORTS.items())
        for name, script in {
            "getprop": f'case "$1" in\n{cases}*) echo;;\nesac\n',
            "dumpsys": f'case "$1" in\n{reports}esac\n',
            "taskset": f'echo "$1" >> {self.root}/pinned\nshift\nexec "$@"\n',
        }.items():
            (programs / name).write_text(f"#!/bin/sh\n{script}")
            (programs / name).chmod(0o755)
        cpus = self.root / "sys" / "devices" / "system" / "cpu"
        for core, frequency in enumerate(FREQUENCIES):
            (cpus / f"cpu{core}" / "cpufreq").mkdir(parents=True)
            (cpus / f"cpu{core}" / "cpufreq" / "cpuinfo_max_freq").write_text(f"{frequency}\n")
        for policy in (0, 2):
            (cpus / "cpufreq" / f"policy{policy}").mkdir(parents=True)
            (cpus / "cpufreq" / f"policy{policy}" / "scaling_governor").write_text("schedutil\n")
        (self.root / "data" / "local" / "tmp").mkdir(parents=True)

    def inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def shell(self, command: str) -> tuple[int, bytes, bytes]:
        """Run a command with the phone's folders in place of this machine's."""
        for folder in ("/data/", "/sys/"):
            command = command.replace(f" {folder}", f" {self.root}{folder}")
        path = f"{self.root}/system/bin:{os.environ['PATH']}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, env={"PATH": path})
        return done.returncode, done.stdout, done.stderr

    def take(self, path: Path, content: bytes, mode: int) -> None:
        """Keep a file that was pushed; a loader gets an entrance that qemu runs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name == LOADER:
            real = path.with_name(f"real-{LOADER}")
            real.write_bytes(content)
            real.chmod(0o755)
            content = f'#!/bin/sh\nexec {QEMU} {real} "$@"\n'.encode()
        path.write_bytes(content)
        path.chmod(mode & 0o777)


class Server(socketserver.ThreadingTCPServer):
    """phones: by serial."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, phones: dict[str, Phone]) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.phones = phones


class Conversation(socketserver.BaseRequestHandler):
    """One connection of a client: some questions to the server, then one service of a phone."""

    server: Server
    request: socket.socket

    def handle(self) -> None:
        phone = None
        while True:
            length = self.read(4)
            if not length:
                return
            asked = self.read(int(length, 16)).decode()
            if phone:
                self.serve(phone, asked)
                return
            if asked == "host:version":
                self.answer("0029")
                return
            if asked.startswith("host:devices"):
                phones = self.server.phones.items()
                self.answer("".join(f"{serial}\t{phone.state}\n" for serial, phone in phones))
                return
            serial, what = addressed(asked)
            found = self.find(serial)
            if isinstance(found, str):
                self.fail(found)
                return
            name, phone = found
            if what == "tport":
                self.request.sendall(b"OKAY" + struct.pack("<Q", 1))
                continue
            self.answer({"get-state": phone.state, "get-serialno": name}.get(what, "shell_v2,cmd"))
            return

    def find(self, serial: str) -> tuple[str, Phone] | str:
        """A phone and its serial, or the server's complaint."""
        phones = self.server.phones
        if serial and serial not in phones:
            return f"device '{serial}' not found"
        if not serial and len(phones) != 1:
            return "more than one device/emulator" if phones else "no devices/emulators found"
        name = serial or next(iter(phones))
        if phones[name].state == "unauthorized":
            return "device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set"
        if phones[name].state != "device":
            return f"device {phones[name].state}"
        return name, phones[name]

    def serve(self, phone: Phone, service: str) -> None:
        self.request.sendall(b"OKAY")
        if service == "sync:":
            self.sync(phone)
            return
        command = service.partition(":")[2]
        phone.commands.append(command)
        if phone.loses and phone.loses in command:
            self.server.phones.clear()  # unplugged
            return
        killed = phone.kills and phone.kills in command
        status, printed, said = (137, b"", b"Killed \n") if killed else phone.shell(command)
        for kind, content in ((STDOUT, printed), (STDERR, said), (EXIT, bytes([status]))):
            self.request.sendall(struct.pack("<BI", kind, len(content)) + content)

    def sync(self, phone: Phone) -> None:
        """Files to and from a phone."""
        while True:
            head = self.read(8)
            if not head:
                return
            kind, length = struct.unpack("<4sI", head)
            if kind == b"QUIT":
                return
            name = self.read(length).decode()
            if kind == b"STAT":
                self.request.sendall(b"STAT" + struct.pack("<III", *status_of(phone.inside(name))))
            elif kind == b"LIST":
                for entry in sorted(phone.inside(name).iterdir()):
                    encoded = entry.name.encode()
                    head = struct.pack("<4sIIII", b"DENT", *status_of(entry), len(encoded))
                    self.request.sendall(head + encoded)
                self.request.sendall(struct.pack("<4sIIII", b"DONE", 0, 0, 0, 0))
            elif kind == b"RECV":
                content = phone.inside(name).read_bytes()
                for start in range(0, len(content), 1 << 16):
                    part = content[start : start + (1 << 16)]
                    self.request.sendall(struct.pack("<4sI", b"DATA", len(part)) + part)
                self.request.sendall(struct.pack("<4sI", b"DONE", 0))
            elif kind == b"SEND":
                path, _, mode = name.rpartition(",")
                self.receive(phone, path, int(mode))

    def receive(self, phone: Phone, path: str, mode: int) -> None:
        content = bytearray()
        while True:
            kind, length = struct.unpack("<4sI", self.read(8))
            if kind == b"DONE":
                break
            content += self.read(length)
        if phone.full:
            reason = b"couldn't write: No space left on device"
            self.request.sendall(struct.pack("<4sI", b"FAIL", len(reason)) + reason)
            return
        phone.take(phone.inside(path), bytes(content), mode)
        self.request.sendall(struct.pack("<4sI", b"OKAY", 0))

    def answer(self, text: str) -> None:
        self.request.sendall(f"OKAY{len(text):04x}{text}".encode())

    def fail(self, text: str) -> None:
        self.request.sendall(f"FAIL{len(text):04x}{text}".encode())

    def read(self, count: int) -> bytes:
        """Empty at the end."""
        content = b""
        while len(content) < count:
            part = self.request.recv(count - len(content))
            if not part:
                return b""
            content += part
        return content


def addressed(asked: str) -> tuple[str, str]:
    """The serial that a question is about, empty for any phone's, and the question."""
    if asked.startswith("host-serial:"):
        serial, _, what = asked.removeprefix("host-serial:").rpartition(":")
        return serial, what
    if asked.startswith("host:tport:serial:"):
        return asked.removeprefix("host:tport:serial:"), "tport"
    return "", asked.split(":")[1]


def status_of(path: Path) -> tuple[int, int, int]:
    """Mode, size and time, zeros for what is not there."""
    if not path.exists():
        return 0, 0, 0
    found = path.stat()
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return found.st_mode, size, int(found.st_mtime)


@contextmanager
def serving(phones: dict[str, Phone]) -> Iterator[int]:
    """Serve these phones; yields the port, for ANDROID_ADB_SERVER_PORT."""
    for phone in phones.values():
        phone.install()
    with Server(phones) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
