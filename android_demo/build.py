"""Build the demo app without Gradle and Google's SDK: python android_demo/build.py."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from lorarar.artefacts.formats import ExecutorchQuantize
from lorarar.command import console, run_script
from lorarar.errors import LorararError
from lorarar.export.choices import one_of
from make import apk, assets, downloads

BUILD = Path(__file__).parent / "build"


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="the APK")] = BUILD
    / "lorarar-demo.apk",
    quantize: Annotated[str, typer.Option(help="the model's weights: none, int8, int4")] = "int8",
    runtime: Annotated[
        bool, typer.Option("--runtime/--no-runtime", help="hold ExecuTorch, or draw nothing")
    ] = True,
    key: Annotated[Path | None, typer.Option(help="a PKCS12 key store; password: android")] = None,
) -> None:
    """Export what is missing, fetch what is pinned, write a signed APK."""
    width = one_of("--quantize", quantize, get_args(ExecutorchQuantize), "ExecuTorch")
    cache = downloads.cache_folder()
    tools = downloads.java_tools(cache)
    native = _native(cache) if runtime else None
    model = assets.exported_model(BUILD, width)
    content = BUILD / "assets"
    assets.write_assets(content, model, native)
    build = apk.Build(BUILD / "apk", tools, native)
    apk.write_apk(build, content, key or apk.debug_key(cache), output)
    console.print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


def _native(cache: Path) -> downloads.NativeRuntime:
    try:
        return downloads.native_runtime(cache)
    except LorararError as error:
        raise LorararError(f"{error}; build without it: --no-runtime") from error


if __name__ == "__main__":
    run_script(main)
