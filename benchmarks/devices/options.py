"""The options that benchmarks with a `--device` share."""

from typing import Annotated

import typer

DeviceText = Annotated[str, typer.Option(help="host, emulated-aarch64, adb or adb:SERIAL")]
Cores = Annotated[
    str | None, typer.Option(help="mask to pin a phone's runner to, such as f0; default: fastest")
]
CoolDown = Annotated[float, typer.Option(min=0, help="seconds of a phone's rest before each work")]
Sustained = Annotated[
    float, typer.Option(min=0, help="seconds of a phone's work without a rest, 0 for none")
]
