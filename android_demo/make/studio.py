"""Run the app's own Studio on this machine: the app's classes over stand-ins for Android's.

The stand-ins are few and plain: files in a folder, one thread that plays the main one, no screen.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from .apk import ANDROID_DEMO
from .host import Host
from .tools import compile_java

HOST = ANDROID_DEMO / "host"


def prepare(host: Host, app: Path, jar: Path, folder: Path) -> Host:
    """Return what runs `RunStudio`.

    app: classes of a build; jar: ExecuTorch's.

    Raises LorararError if the compiler fails.
    """
    places = (folder, app, jar)  # what stands in is found first
    for sources in (HOST / "android", HOST / "src-app"):
        compile_java(sources.rglob("*.java"), folder, *places)
    return replace(host, class_path=":".join(map(str, places)))


def act(host: Host, folder: Path, assets: Path, *task: str | Path) -> dict[str, Any]:
    """Do one task of `RunStudio` and return what the screens would show, empty if it was ended.

    folder: the app's own files, kept from one call to the next.
    """
    said = host.run("RunStudio", folder, assets, *task, package="org.lorarar.app")
    shown: dict[str, Any] = json.loads(said or "{}")
    return shown
