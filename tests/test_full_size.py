"""Full SDXL size, outside the default run: pytest -m slow tests/test_full_size.py"""

import json
import subprocess
import sys

import numpy as np
import pytest
import reference

from lorarar import load_hypernet, load_lora
from lorarar.benchmarks.export_size import main
from lorarar.standin import write_standins

MERGE = """
import json, sys
from pathlib import Path
from lorarar.benchmarks.machine import peak_memory
from lorarar.merge_files import merge_files
content, style, hypernet, out = map(Path, sys.argv[1:])
with peak_memory() as peak:
    merge_files(content, style, out, hypernet=hypernet)
print(json.dumps(peak.megabytes))
"""


@pytest.mark.slow
def test_two_sdxl_loras_stream_into_one_in_under_100_mb(tmp_path):
    (content, style), hypernet = write_standins(tmp_path, "sdxl", 64)
    assert 180e6 < content.stat().st_size < 190e6
    out = tmp_path / "out.safetensors"
    command = [sys.executable, "-c", MERGE, content, style, hypernet, out]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) < 100
    merged, pair = load_lora(out), [load_lora(file) for file in (content, style)]
    assert len(merged.layers) == 560 and {layer.rank for layer in merged.layers.values()} == {128}
    net = load_hypernet(hypernet)
    for name in ("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
                 "mid_block.attentions.0.transformer_blocks.9.attn2.to_out.0"):  # fmt: skip
        dense = [reference.dense(*lora.layers[f"unet.{name}"]) for lora in pair]
        m = reference.coefficients(*dense, *net.inputs[dense[0].shape[0]], *net.output)
        wanted = reference.merged(*dense, m)
        found = reference.dense(*merged.layers[f"unet.{name}"])
        assert np.linalg.norm(found - wanted) < 1e-3 * np.linalg.norm(wanted)


@pytest.mark.slow
def test_sdxl_is_exported_in_int8_in_under_6_gb_and_agrees_with_torch(tmp_path):
    """Takes 20 GB of memory for torch's answer, and 10 minutes."""
    path = tmp_path / "figures.json"
    main(base="sdxl", quantize=["int8"], side=64, rank=128, rounds=1, threads=2, json=path)
    (row,) = json.loads(path.read_text())["rows"]
    assert row["unet_gb"] < 2.7
    assert row["export_peak_gb"] < 6
    assert row["error"] < 0.1
