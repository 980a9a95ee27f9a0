"""From sources to a signed APK by Debian's tools, without Gradle and Google's SDK.

javac and dx make the code, aapt the resources; the archive itself is written here, with fixed dates
and in a fixed order, so that the same sources and the same key give the same bytes.
"""

import shutil
import xml.etree.ElementTree as ElementTree
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lorarar.runtime.native.tools import run

from .downloads import LIBRARIES, JavaTools, NativeRuntime
from .tools import compile_java

ANDROID_DEMO = Path(__file__).parents[1]
MAIN = ANDROID_DEMO / "app" / "src" / "main"
NPM_SOURCES = ANDROID_DEMO / "npm" / "src" / "main" / "java"  # of fbjni, that Gradle gets
WITHOUT_SOURCES = ANDROID_DEMO / "without" / "src" / "main" / "java"
APPLICATION = "org.lorarar.app"
VERSION_CODE, VERSION_NAME = "1", "0.1.0"  # what Android compares, and what people read
MIN_SDK, TARGET_SDK = 26, 36
ABI = "arm64-v8a"
STORED = (".pte", ".arsc", ".png", ".safetensors")  # read in place, or compressed already
DATE = (2026, 1, 1, 0, 0, 0)
ANDROID = "http://schemas.android.com/apk/res/android"


@dataclass(frozen=True)
class Build:
    """Where an app is made. folder: for what lies between sources and APK, made anew."""

    folder: Path
    tools: JavaTools
    runtime: NativeRuntime | None


def write_apk(build: Build, assets: Path, key: Path, output: Path) -> None:
    """Compile, package and sign the app with what `assets` holds.

    Raises LorararError if a tool is missing or refuses a source.
    """
    shutil.rmtree(build.folder, ignore_errors=True)
    build.folder.mkdir(parents=True)
    resources = _package_resources(build)
    dex = _compile(build)
    unsigned = build.folder / "unsigned.apk"
    with zipfile.ZipFile(unsigned, "w") as archive:
        with zipfile.ZipFile(resources) as packed:
            for name in sorted(packed.namelist()):
                _add(archive, name, packed.read(name))
        _add(archive, "classes.dex", dex.read_bytes())
        for path in sorted(path for path in assets.rglob("*") if path.is_file()):
            _add(archive, f"assets/{path.relative_to(assets).as_posix()}", path.read_bytes())
        if build.runtime is not None:
            for library in LIBRARIES:
                content = (build.runtime.libraries(ABI) / library).read_bytes()
                _add(archive, f"lib/{ABI}/{library}", content)
    aligned = build.folder / "aligned.apk"
    run(["zipalign", "-f", "4", unsigned, aligned])
    signed = build.folder / "signed.apk"
    run(["apksigner", "sign", "--ks", key, "--ks-pass", "pass:android", "--out", signed, aligned])
    output.parent.mkdir(parents=True, exist_ok=True)
    signed.replace(output)


def debug_key(folder: Path) -> Path:
    """Return a key for trying the app out, of this user alone; it is made once."""
    key = folder / "debug.p12"
    if not key.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["keytool", "-genkeypair", "-keystore", str(key), "-storetype", "PKCS12"]
        command += ["-storepass", "android", "-alias", "debug", "-keyalg", "RSA", "-keysize"]
        run([*command, "2048", "-validity", "10000", "-dname", "CN=lorarar debug"])
    return key


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, DATE)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(STORED) else zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _package_resources(build: Build) -> Path:
    """Compile resources; the class R that names them goes to `generated`."""
    generated = build.folder / "generated"
    generated.mkdir()
    manifest = build.folder / "AndroidManifest.xml"
    _write_manifest(manifest)
    packed = build.folder / "resources.apk"
    command = ["aapt", "package", "-f", "-m", "--no-version-vectors"]
    command += ["--min-sdk-version", str(MIN_SDK), "--target-sdk-version", str(TARGET_SDK)]
    command += ["-S", str(MAIN / "res"), "-I", str(build.tools.android_jar)]
    run([*command, "-J", generated, "-M", manifest, "-F", packed])
    return packed


def _write_manifest(path: Path) -> None:
    """Add what Gradle would add to the app's manifest."""
    ElementTree.register_namespace("android", ANDROID)
    tree = ElementTree.parse(MAIN / "AndroidManifest.xml")
    root = tree.getroot()
    root.set("package", APPLICATION)
    root.set(f"{{{ANDROID}}}versionCode", VERSION_CODE)
    root.set(f"{{{ANDROID}}}versionName", VERSION_NAME)
    levels = {"minSdkVersion": MIN_SDK, "targetSdkVersion": TARGET_SDK}
    attributes = {f"{{{ANDROID}}}{name}": str(level) for name, level in levels.items()}
    root.insert(0, ElementTree.Element("uses-sdk", attributes))
    for application in root.iter("application"):  # libraries are compressed, so unpacked at install
        application.set(f"{{{ANDROID}}}extractNativeLibs", "true")
    tree.write(path, "utf-8", xml_declaration=True)


def _compile(build: Build) -> Path:
    classes = build.folder / "classes"
    sources = [*MAIN.rglob("*.java"), *(build.folder / "generated").rglob("*.java")]
    jars = [build.tools.android_jar]
    if build.runtime is not None:
        sources += NPM_SOURCES.rglob("*.java")
        jars.append(build.runtime.jar)
    else:
        sources = [path for path in sources if path.parent.name != "engine"]
        sources += WITHOUT_SOURCES.rglob("*.java")
    compile_java(sources, classes, *jars)
    dex = build.folder / "classes.dex"
    dexer = ["java", "-cp", str(build.tools.dx), "com.android.dx.command.Main", "--dex"]
    run([*dexer, f"--min-sdk-version={MIN_SDK}", f"--output={dex}", classes, *jars[1:]])
    return dex
