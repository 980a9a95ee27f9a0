"""What exporters share: slots, shortcuts that change nothing, scripts that say our words only."""

import subprocess
import sys
from inspect import signature
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch import nn

from lorarar.artefacts.formats import FORMATS
from lorarar.bases import BASES, attention_shapes, narrowed
from lorarar.diffusion.projections import attention_projections
from lorarar.diffusion.standin import standin_unet
from lorarar.embedded import HYPERNET
from lorarar.errors import LorararError
from lorarar.export.choices import one_of
from lorarar.export.executorch import hypernet as executorch_hypernet
from lorarar.export.executorch import shortcuts
from lorarar.export.executorch.lower import attend, lower
from lorarar.export.exporters import pipeline_exporter
from lorarar.export.onnx import decompose
from lorarar.export.onnx.graph import trace
from lorarar.export.parts import Part, unet_part
from lorarar.export.slots import GivenFactors, SlottedLinear, slotted_projections
from lorarar.export.source import open_model
from lorarar.export.stages import stages_of
from lorarar.hypernet import Hypernet
from lorarar.quiet import without_bars

ROOT = Path(__file__).parent.parent
SCRIPTS = {"onnx": "m.onnx", "executorch": "m.pte", "coreml": "m.mlpackage"}


@pytest.mark.parametrize("name", BASES)
def test_a_unets_attention_projections_are_its_bases(name):
    base = narrowed(BASES[name])
    unet = standin_unet(base, torch.float32, 8, "meta")
    assert attention_projections(unet) == attention_shapes(base)


def test_a_unet_of_no_base_has_no_slots():
    with pytest.raises(LorararError, match="model: its UNet's attention layers fit no SDXL-class"):
        slotted_projections(nn.Linear(2, 2), "model")


@torch.no_grad()
def test_a_slotted_projection_adds_up_times_down():
    layer, given = nn.Linear(6, 4), GivenFactors()
    x, down, up = torch.randn(1, 3, 6), torch.randn(2, 6), torch.randn(4, 2)
    given.take(["q"], [down, up])
    wanted = layer(x) + x @ (up @ down).T
    assert torch.allclose(SlottedLinear(layer, "q", given)(x), wanted, atol=1e-5)


def test_a_choice_is_one_of_a_few_words():
    assert one_of("--quantize", "int8", ("none", "int8"), "ONNX") == "int8"
    with pytest.raises(LorararError, match="--quantize int2: unknown for ONNX; use one of none"):
        one_of("--quantize", "int2", ("none", "int8"), "ONNX")


@pytest.fixture(
    params=["hypernetwork", pytest.param("stage of a UNet", marks=pytest.mark.slow)]  # 47 s
)
def executorch_bytes(request, tmp_path):
    """A function that exports once more, and returns the program's bytes."""

    def hypernet_bytes():
        path = tmp_path / "hypernet.pte"
        hypernet = Hypernet.random((64,), hidden=8)
        executorch_hypernet.export_hypernet(hypernet, path, force=True)
        return path.read_bytes()

    def stage_bytes():
        with open_model("mini", None) as model, torch.device("meta"), torch.no_grad():
            stages = stages_of(unet_part(model, 1, 8), attend)
            (stage,) = (each for each in stages if each.name == "unet.mid_block")
            assert stage.projections
        with torch.no_grad():
            return lower(stage.loaded(), "int8", "xnnpack")

    return hypernet_bytes if request.param == "hypernetwork" else stage_bytes


def test_executorchs_shortcuts_change_no_byte(executorch_bytes, monkeypatch):
    with_shortcuts = executorch_bytes()
    monkeypatch.setattr(shortcuts, "is_tried", lambda library: False)
    assert executorch_bytes() == with_shortcuts


@pytest.mark.parametrize("name", FORMATS)
def test_a_formats_usual_precision_is_what_its_exporter_defaults_to(name):
    exporter = pipeline_exporter(name).export_pipeline
    assert signature(exporter).parameters["quantize"].default == FORMATS[name].quantize


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, sample):
        return nn.functional.interpolate(
            self.norm(self.conv(sample)).half().float(), scale_factor=2.0
        )


def onnx_bytes_but_for_names(monkeypatch, tried):
    """A traced part, with its values named by their order: torch names them for its operators."""
    monkeypatch.setattr(decompose, "is_tried", lambda library: tried)
    torch.manual_seed(0)
    part = Part(
        name="small",
        module=Small().eval(),
        core="",
        weights={},
        inputs={"sample": torch.zeros(2, 4, 8, 8)},
        outputs=["image"],
        axes={"sample": {0: "batch", 2: "height", 3: "width"}},
    )
    model = trace(part, torch.float32)
    for index, node in enumerate(model.graph.all_nodes()):
        node.metadata_props.clear()
        node.name = f"node_{index}"
        node.attributes.pop("saturate", None)  # of casts to float8 only; 1 either way
        for output in node.outputs:
            output.name = f"value_{output.producer().name}_{output.index()}"
            output.metadata_props.clear()
    return ir.to_proto(model).SerializeToString()


def test_onnxs_shortcut_changes_names_only(monkeypatch):
    with_shortcut, without = (onnx_bytes_but_for_names(monkeypatch, each) for each in (True, False))
    assert with_shortcut == without


def test_only_bars_are_left_out(capsys):
    with without_bars():
        sys.stderr.write("\r 50% of passes")
        sys.stderr.write("\r100% of passes")
        sys.stderr.write("\n")
        print("a warning", file=sys.stderr)
    assert capsys.readouterr().err == "a warning\n"


@pytest.mark.parametrize("name", SCRIPTS)
def test_exporting_a_hypernetwork_says_our_words_only(name, tmp_path):
    command = [sys.executable, f"export/to_{name}.py", "--hypernet", str(HYPERNET)]
    command += ["-o", str(tmp_path / SCRIPTS[name])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "exported in" in done.stdout
