"""Run the app's engine with the very libraries of its APK for phones, under qemu's user mode.

The JRE for arm64 comes from Debian by a private tree of apt, which checks Debian's signatures; this
machine's own packages stay as they are. It says nothing about a phone's speed.
"""

from pathlib import Path

from lorarar.errors import LorararError
from lorarar.files import write_folder_atomically
from lorarar.runtime.native.tools import require, run

from .host import Host, build_classes, build_shim

SUITE = "bookworm"
PACKAGES = ("openjdk-17-jre-headless", "libc6", "libgcc-s1", "libstdc++6", "zlib1g")
JAVA = "usr/lib/jvm/java-17-openjdk-arm64/bin/java"
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CPU = "cortex-a76"  # with the instructions for int8 (dotprod) that phones have since 2018
APT = """\
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Sandbox::User "";
Dir "{0}";
Dir::Etc "{0}";
Dir::Etc::sourcelist "{0}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "{0}/state";
Dir::State::status "{0}/status";
Dir::Cache "{0}/cache";
"""


def prepare(libraries: Path, jar: Path, cache: Path) -> Host:
    """Build shim and classes into `cache`, and fetch a JRE for arm64 if it is not there yet.

    libraries: a folder with LIBRARIES of arm64-v8a; jar: ExecuTorch's Java classes.

    Raises LorararError naming Debian's package if a tool is missing, or if the JRE cannot be had.
    """
    require("qemu-aarch64")
    root = rootfs(cache)
    stands_in = build_shim(libraries, cache, "aarch64")
    inside = f"LD_LIBRARY_PATH={stands_in}:{libraries}"  # of the program, not of qemu
    qemu = ("qemu-aarch64", "-cpu", CPU, "-L", str(root), "-E", inside)
    return Host((*qemu, str(root / JAVA)), libraries, build_classes(jar, cache))


def rootfs(cache: Path) -> Path:
    """Return a folder with Debian's JRE for arm64 and the libraries it needs, fetched once.

    Raises LorararError if it cannot be fetched.
    """
    folder = cache.resolve() / f"{SUITE}-arm64"
    if not folder.exists():
        packages = _fetch(cache.resolve() / "apt")
        write_folder_atomically(folder, lambda part: _unpack(packages, part), force=False)
    return folder


def _unpack(packages: list[Path], root: Path) -> None:
    for package in packages:
        run(["dpkg-deb", "-x", package, root])
    _keep_links_inside(root)


def _fetch(tree: Path) -> list[Path]:
    """Download PACKAGES."""
    require("apt-get")
    if not KEYS.exists():
        raise LorararError(f"{KEYS}: does not exist; run: apt-get install debian-archive-keyring")
    for name in ("state/lists/partial", "cache/archives/partial", "packages"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "status").touch()
    source = f"deb [signed-by={KEYS}] http://deb.debian.org/debian {SUITE} main\n"
    (tree / "sources.list").write_text(source)
    settings = tree / "apt.conf"
    settings.write_text(APT.format(tree))
    apt = ["env", "-C", str(tree / "packages"), f"APT_CONFIG={settings}", "apt-get"]
    try:
        run([*apt, "-qq", "update"])
        run([*apt, "-qq", "download", *PACKAGES])
    except LorararError as error:
        raise LorararError(f"a JRE for arm64: cannot be fetched ({error})") from error
    return sorted((tree / "packages").glob("*.deb"))


def _keep_links_inside(root: Path) -> None:
    """Make absolute links relative: they mean files of `root`, not of this machine."""
    for path in root.rglob("*"):
        if path.is_symlink() and path.readlink().is_absolute():
            target = path.readlink().relative_to("/")
            up = Path(*[".."] * len(path.parent.relative_to(root).parts))
            path.unlink()
            path.symlink_to(up / target)
