"""The demo app, as far as a machine without a phone can tell: make test-android.

Skipped where Debian's tools or what they work on cannot be had, with the reason.
"""

import json
import shutil
import sys
from pathlib import Path

import jsonschema
import pytest

from lorarar.errors import LorararError

DEMO = Path(__file__).parents[1] / "android_demo"
sys.path.insert(0, str(DEMO))

from make import apk, arm64, assets, downloads, host, junit, studio, verify  # noqa: E402

pytestmark = pytest.mark.android
TOOLS = ("aapt", "apksigner", "zipalign", "enjarify", "javac", "npm", "dpkg-deb", "gcc")
TOOLS += ("qemu-aarch64", "aarch64-linux-gnu-gcc")
PAGE_16K, PAGE_4K = 1 << 14, 1 << 12
PAIR = ("votol.safetensors", "ink.safetensors")
PROMPT = "a votol cup in ink style"


@pytest.fixture(scope="module", autouse=True)
def _all_tools():
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; see android_demo/README.md")


@pytest.fixture(scope="module")
def tools():
    return got(downloads.java_tools)


@pytest.fixture(scope="module")
def runtime():
    return got(downloads.native_runtime)


def got(fetch):
    """What is fetched, or why it cannot be had."""
    try:
        return fetch(downloads.cache_folder())
    except LorararError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def content(runtime, tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets") / "assets"
    assets.write_assets(folder, assets.exported_model(DEMO / "build", "int8"), runtime)
    return folder


@pytest.fixture(scope="module")
def built(tools, runtime, content, tmp_path_factory):
    """Build the app twice, in folders of other names."""
    made = []
    for name in ("one", "other"):
        folder = tmp_path_factory.mktemp(name)
        build = apk.Build(folder / "work", tools, runtime)
        key = apk.debug_key(tmp_path_factory.getbasetemp() / "key")
        apk.write_apk(build, content, key, folder / "demo.apk")
        made.append(folder / "demo.apk")
    return made


@pytest.fixture(scope="module")
def facts(built):
    return verify.read_apk(built[0])


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    junit.write_vectors(folder)
    return folder


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    return junit.compile_core(tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def junit_tests(core, tmp_path_factory):
    return junit.compile_tests(core, tmp_path_factory.mktemp("junit"))


def test_core_computes_what_python_computes(junit_tests, core, vectors):
    assert "OK (" in junit.run_tests(junit_tests, core, vectors)


def test_the_code_inside_the_apk_passes_the_same_tests(junit_tests, built, vectors, tmp_path):
    shipped = junit.classes_of_dex(built[0], tmp_path)
    assert "OK (" in junit.run_tests(junit_tests, shipped, vectors)


def test_two_builds_are_the_same_byte_for_byte(built):
    assert built[0].read_bytes() == built[1].read_bytes()


def test_apk_is_signed_small_and_asks_for_nothing(facts):
    assert {"v2", "v3"} <= facts.signatures
    assert facts.permissions == []
    assert facts.size < 60e6
    assert facts.badging["sdkVersion"] == str(apk.MIN_SDK)
    assert facts.badging["targetSdkVersion"] == str(apk.TARGET_SDK)
    assert facts.badging["package"].strip().startswith(f"name='{apk.APPLICATION}'")
    assert "launchable-activity" in facts.badging


def test_programs_lie_in_the_apk_stored_and_aligned(facts, content):
    programs = {f"assets/{path.relative_to(content)}" for path in content.rglob("*.pte")}
    assert len(programs) == 16
    assert programs <= facts.stored
    assert facts.unaligned == []


def test_libraries_are_of_one_abi_and_what_the_readme_says_of_pages(facts):
    assert facts.abis == {apk.ABI}
    assert facts.pages == {
        "libexecutorch.so": PAGE_16K,
        "libfbjni.so": PAGE_4K,  # as React Native 0.70 built them
        "libc++_shared.so": PAGE_4K,
    }


def test_the_app_without_a_runtime_builds_too(tools, content, tmp_path):
    build = apk.Build(tmp_path / "work", tools, None)
    key = apk.debug_key(tmp_path)
    apk.write_apk(build, content, key, tmp_path / "small.apk")
    facts = verify.read_apk(tmp_path / "small.apk")
    assert facts.abis == frozenset()
    assert {"v2", "v3"} <= facts.signatures


def drawn_by_both(on, model, content, folder, seed, steps):
    """One picture of the pair by the app's Java and ExecuTorch for Android, and by Python."""
    loras = [content / "loras" / name for name in PAIR]
    asked = host.Asked(model, *loras, prompt=PROMPT, seed=seed, steps=steps)
    found = host.draw(on, asked, content / "names.json", folder)
    return found, host.reference(asked)


@pytest.fixture(scope="module")
def float32_model():
    return assets.exported_model(DEMO / "build", "none")


@pytest.fixture(scope="module")
def computer(runtime, tmp_path_factory):
    folder = tmp_path_factory.mktemp("host")
    return host.prepare(runtime.libraries("x86_64"), runtime.jar, folder)


def test_the_engine_draws_what_python_draws(computer, float32_model, content, tmp_path):
    found, wanted = drawn_by_both(computer, float32_model, content, tmp_path, seed=0, steps=20)
    assert host.psnr(found, wanted) > 40
    assert found.timings["merge_ms"] > 0


def test_the_apks_own_int8_model_draws_what_python_draws(computer, content, tmp_path):
    # Python moves as far from itself (34.9 dB) if its noise moves in the last digit: a value that
    # is rounded at run time to the next level moves all that follows.
    drawn = [
        drawn_by_both(computer, content / "model", content, tmp_path / str(seed), seed, steps=20)
        for seed in range(4)
    ]
    assert host.psnr_of_all(*map(list, zip(*drawn, strict=True))) > 30


def test_arm64s_library_merges_and_steps_as_python_does(runtime, float32_model, content, tmp_path):
    library = runtime.libraries(apk.ABI)
    got(arm64.rootfs)
    phone = arm64.prepare(library, runtime.jar, downloads.cache_folder())
    found, wanted = drawn_by_both(phone, float32_model, content, tmp_path, seed=0, steps=1)
    assert host.psnr(found, wanted) > 40


@pytest.fixture(scope="module")
def app(computer, runtime, built, tmp_path_factory):
    classes = built[0].with_name("work") / "classes"
    return studio.prepare(computer, classes, runtime.jar, tmp_path_factory.mktemp("studio"))


def test_a_drawing_whose_process_was_ended_goes_on_to_the_same_picture(app, content, tmp_path):
    whole = studio.act(app, tmp_path / "whole", content, "draw", "8", "7")
    assert (whole["problem"], whole["pictures"], whole["merged"]) == (None, 1, True)
    assert studio.act(app, tmp_path / "ended", content, "draw", "8", "7", "4") == {}
    resumed = studio.act(app, tmp_path / "ended", content, "resume")
    assert (resumed["problem"], resumed["pictures"], resumed["seed"]) == (None, 1, 7)
    assert Path(resumed["picture"]).read_bytes() == Path(whole["picture"]).read_bytes()


def test_the_app_opens_loras_and_refuses_others_in_words(app, content, tmp_path):
    lora = content / "loras" / PAIR[1]
    opened = studio.act(app, tmp_path / "app", content, "import", lora, "mine.safetensors")
    assert (opened["problem"], opened["loras"]) == (None, 13)
    (tmp_path / "bad").write_bytes(b"no LoRA")
    refused = studio.act(app, tmp_path / "app", content, "import", tmp_path / "bad", PAIR[0])
    assert refused["loras"] == 13
    assert refused["problem"].startswith(f"{PAIR[0]}: not a valid safetensors file")


def test_a_refused_model_is_not_opened_after_a_restart_either(app, content, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(content / "model", damaged)
    config = damaged / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.092"))  # as long, as hashes alone see
    refused = studio.act(app, tmp_path / "app", content, "use", damaged)
    assert refused["problem"].startswith(f"{config}: its SHA-256 is not what lorarar.json says")
    restarted = studio.act(app, tmp_path / "app", content, "draw", "2", "7")
    assert (restarted["problem"], restarted["pictures"]) == (None, 1)
    embedded = restarted["model"]
    assert embedded == refused["model"] != str(damaged)
    shutil.copytree(content / "model", tmp_path / "sound")
    studio.act(app, tmp_path / "app", content, "use", tmp_path / "sound")
    kept = studio.act(app, tmp_path / "app", content, "draw", "2", "8")
    assert (kept["problem"], kept["model"]) == (None, str(tmp_path / "sound"))


def test_the_apps_benchmark_is_of_the_benchmarks_schema(app, content, tmp_path):
    shown = studio.act(app, tmp_path / "app", content, "benchmark")
    found = json.loads(shown["benchmark"])
    schema = json.loads((DEMO.parent / "benchmarks" / "schema.json").read_bytes())
    jsonschema.validate(found, schema)
    assert found["rows"][0]["median_ms"] > 0
    assert found["rows"][-1]["step_with_lora_ms"] > 0
