"""JUnit over the app's core: from its sources, and from the code that an APK really holds."""

import os
from pathlib import Path

from lorarar.errors import LorararError
from lorarar.runtime.native.tools import run

from . import vectors_drawing, vectors_loras
from .apk import ANDROID_DEMO, MAIN
from .tools import compile_java

TESTS = ANDROID_DEMO / "app" / "src" / "test" / "java"
JAVA = Path("/usr/share/java")
JARS = ("junit4.jar", "hamcrest-core.jar")  # of Debian's package junit4
DEBIAN_PATH = "PATH=/usr/bin:/bin"  # enjarify is a program of Debian's own Python


def write_vectors(folder: Path) -> None:
    """Write what Python computes, for Java to compute again."""
    vectors_loras.write(folder)
    vectors_drawing.write(folder)


def compile_core(folder: Path) -> Path:
    """Return the classes of the app's core, made from its sources."""
    compile_java((MAIN / "java/org/lorarar/core").rglob("*.java"), folder)
    return folder


def classes_of_dex(apk: Path, folder: Path) -> Path:
    """Turn an APK's code back into a jar by enjarify.

    Raises LorararError if enjarify is not installed, or leaves classes out.
    """
    jar = folder / "of-dex.jar"
    enjarify = "/usr/bin/enjarify"
    if not os.access(enjarify, os.X_OK):
        raise LorararError("enjarify: not installed; run: apt-get install enjarify")
    said = run(["env", DEBIAN_PATH, enjarify, "-f", "-o", jar, apk])
    if " 0 classes had errors" not in said:
        raise LorararError(f"{apk}: enjarify cannot read all of its code: {said.strip()}")
    return jar


def compile_tests(core: Path, folder: Path) -> Path:
    """Return the classes of the tests; core: `compile_core`'s, as a dex has lost its generics."""
    compile_java(TESTS.rglob("*.java"), folder, core, _libraries())
    return folder


def run_tests(tests: Path, core: Path, vectors: Path) -> str:
    """Run every JUnit test on classes of core, and return what JUnit printed.

    Raises LorararError if one fails.
    """
    names = [
        ".".join(path.relative_to(TESTS).with_suffix("").parts)
        for path in sorted(TESTS.rglob("*Test.java"))
    ]
    command = ["java", f"-Dlorarar.vectors={vectors}", "-cp", f"{tests}:{core}:{_libraries()}"]
    return run([*command, "org.junit.runner.JUnitCore", *names])


def _libraries() -> str:
    for path in (JAVA / name for name in JARS):
        if not path.exists():
            raise LorararError(f"{path}: does not exist; run: apt-get install junit4")
    return ":".join(str(JAVA / name) for name in JARS)
