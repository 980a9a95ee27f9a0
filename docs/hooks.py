"""Pages link to files of the repository beside `docs/`; the site gets these files, too."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BESIDE = (
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "android_demo/*.md",
    "benchmarks/LOG.md",
    "benchmarks/devices/insn.c",
    "benchmarks/results/*",
    "benchmarks/schema.json",
    "examples/*.py",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files beside `docs/`, at their paths in the repository."""
    for pattern in BESIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """In the site what lies beside `docs/` lies in it, and the other way round."""
    return markdown.replace("](../", "](").replace("](docs/", "](")
