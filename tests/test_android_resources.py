"""The demo app's resources, manifest and Gradle files agree, as far as their texts can tell."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "android_demo"
MAIN = DEMO / "app" / "src" / "main"
NS = "{http://schemas.android.com/apk/res/android}"
LAYOUTS = sorted((MAIN / "res" / "layout").glob("*.xml"))
SOURCES = {path: path.read_text() for path in (MAIN / "java").rglob("*.java")}
READABLE = 4.5  # WCAG 2.1, 1.4.3


def values(folder, tag):
    return {
        each.get("name"): each.text or ""
        for path in sorted((MAIN / "res" / folder).glob("*.xml"))
        for each in ElementTree.parse(path).getroot().iter(tag)
    }


def test_texts_are_the_same_ones_in_both_languages_with_the_same_places():
    english, german = values("values", "string"), values("values-de", "string")
    assert english.keys() - german.keys() == {"app"}
    assert german.keys() <= english.keys()
    for name, text in german.items():
        assert sorted(re.findall(r"%\d\$\.?\d?\w", text)) == sorted(
            re.findall(r"%\d\$\.?\d?\w", english[name])
        ), name


def test_every_text_is_used_and_every_used_one_is_there():
    texts = [*SOURCES.values(), *(path.read_text() for path in (MAIN / "res").rglob("*.xml"))]
    texts.append((MAIN / "AndroidManifest.xml").read_text())
    used = {name for text in texts for name in re.findall(r"(?:R\.|@)string[./](\w+)", text)}
    assert used == values("values", "string").keys()


def test_every_view_that_code_looks_for_is_in_a_layout():
    there = {name for path in LAYOUTS for name in re.findall(r"@\+id/(\w+)", path.read_text())}
    wanted = {name for text in SOURCES.values() for name in re.findall(r"\bR\.id\.(\w+)", text)}
    assert wanted <= there
    layouts = {name for text in SOURCES.values() for name in re.findall(r"R\.layout\.(\w+)", text)}
    assert layouts == {path.stem for path in LAYOUTS}


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.name)
def test_layouts_speak_grow_and_turn_round(path):
    for view in ElementTree.parse(path).getroot().iter():
        if view.tag in ("ImageView", "ImageButton", "ProgressBar"):  # sliders say their values
            hidden = view.get(f"{NS}importantForAccessibility") == "no"
            assert hidden or view.get(f"{NS}contentDescription"), view.attrib
        for name, value in view.attrib.items():
            assert not re.search("Left|Right", name), (view.tag, name)
            assert not re.fullmatch("left|right", value), (view.tag, name, value)
            if name == f"{NS}textSize":
                assert value.endswith("sp")
            if name in (f"{NS}text", f"{NS}contentDescription", f"{NS}hint"):
                assert value.startswith("@string/"), value


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("folder", ["values", "values-night"])
def test_texts_stand_out_by_day_and_by_night(folder):
    colours = values("values", "color") | values(folder, "color")
    pairs = [(each, "page") for each in ("text", "faint", "wrong", "accent")]
    for front, back in [*pairs, ("on_accent", "accent")]:
        light, dark = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= READABLE, (front, back)


def test_manifest_asks_for_nothing_and_names_classes_that_exist():
    root = ElementTree.parse(MAIN / "AndroidManifest.xml").getroot()
    assert not list(root.iter("uses-permission"))
    assert root.get("package") is None  # Gradle's namespace says it
    classes = {f"{path.stem}" for path in SOURCES}
    named = [each for each in root.iter() if each.tag in ("application", "activity", "provider")]
    assert len(named) > 2
    for each in named:
        assert each.get(f"{NS}name").rsplit(".", 1)[1] in classes
        if each.tag != "application":
            launches = each.find("intent-filter") is not None
            assert each.get(f"{NS}exported") == str(launches).lower()


def test_no_code_reaches_for_the_network_or_uses_what_dx_cannot_read():
    for path, text in SOURCES.items():
        assert not re.search(r"java\.net\.(URL|Socket|Http)|android\.net\.(Connect|Http)", text), (
            path
        )
        assert not re.search(r"->\s*[{\w(]|\w::\w", re.sub(r"//.*|/\*.*?\*/|\".*?\"", "", text)), (
            path
        )
        if path.parent.name == "core":
            assert not re.search(r"^import (static )?android\.", text, re.MULTILINE), path


def test_gradle_files_name_what_is_there():
    catalogue = (DEMO / "gradle" / "libs.versions.toml").read_text()
    names = {name.replace("-", ".") for name in re.findall(r"^([\w-]+) = \{", catalogue, re.M)}
    versions = set(re.findall(r"^(\w+) = \"[\d.]+\"$", catalogue, re.MULTILINE))
    assert set(re.findall(r"version\.ref = \"(\w+)\"", catalogue)) == versions
    scripts = [(DEMO / name).read_text() for name in ("build.gradle.kts", "app/build.gradle.kts")]
    used = re.findall(r"libs\.(?:plugins\.)?([\w.]+)\)", "".join(scripts))
    assert set(used) == names
    build = scripts[1]
    assert (DEMO / "app" / "proguard-rules.pro").exists()
    assert re.search(r'assets\.srcDir\("\.\./build/assets"\)', build)
    assert '"build"' in (DEMO / "build.py").read_text()
    assert '"assets"' in (DEMO / "build.py").read_text()
    for name, value in (("minSdk", 26), ("targetSdk", 36), ("compileSdk", 36)):
        assert f"{name} = {value}\n" in build
