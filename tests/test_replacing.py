"""--force replaces what lorarar could have written, and nothing else."""

import json
import os
import stat

import numpy as np
import pytest

from lorarar import Layer, Lora, LorararError, load_lora, save_lora
from lorarar.files import write_atomically, write_folder_atomically
from lorarar.standin import standin_lora

LORA = standin_lora("mini", 1, seed=0)


def refused(match: str, path, layout: str = "diffusers") -> None:
    with pytest.raises(LorararError, match=match) as error:
        save_lora(LORA, path, layout, force=True)
    assert str(path) in str(error.value)


def test_a_folder_of_something_else_is_kept_whole(tmp_path):
    mine = tmp_path / "my loras"
    (mine / "sub").mkdir(parents=True)
    (mine / "dog.safetensors").write_bytes(b"dog")
    (mine / "sub" / "notes.txt").write_text("notes")
    refused(r"holds 'dog\.safetensors', which lorarar did not write", mine, "peft")
    assert (mine / "dog.safetensors").read_bytes() == b"dog"
    assert (mine / "sub" / "notes.txt").read_text() == "notes"
    refused("is a folder|holds", mine)


def test_an_adapter_s_folder_is_replaced_unless_more_is_in_it(tmp_path):
    folder = tmp_path / "adapter"
    text = Layer(np.ones((64, 1), np.float32), np.ones((1, 64), np.float32))
    both = Lora(LORA.layers | {"text_encoder.text_model.encoder.layers.0.self_attn.q_proj": text})
    save_lora(both, folder, "peft")
    save_lora(LORA, folder, "peft", force=True)
    assert sorted(os.listdir(folder)) == ["adapter_config.json", "adapter_model.safetensors"]
    (folder / "README.md").write_text("mine")
    refused(r"README\.md", folder, "peft")
    assert load_lora(folder).layers.keys() == LORA.layers.keys()


def test_an_exported_folder_is_replaced_by_what_its_manifest_lists(tmp_path):
    folder = tmp_path / "exported"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "model.onnx").write_bytes(b"old")
    (folder / "lorarar.json").write_text(json.dumps({"files": {"unet/model.onnx": [3, "hash"]}}))

    def fill(new) -> None:
        (new / "lorarar.json").write_text("new")

    for mine in ("mine.txt", "unet/mine.txt", "unet/.hidden"):
        (folder / mine).write_text("mine")
        with pytest.raises(LorararError, match=f"holds '{mine}'"):
            write_folder_atomically(folder, fill, force=True)
        (folder / mine).unlink()
    write_folder_atomically(folder, fill, force=True)
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("lorarar.json", "new")]
    (folder / "mine.txt").write_text("mine")
    (folder / "lorarar.json").write_text("[]")
    with pytest.raises(LorararError, match="holds"):
        write_folder_atomically(folder, fill, force=True)


def test_a_file_and_a_folder_do_not_replace_each_other(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    refused("is a file", tmp_path / "file", "peft")
    (tmp_path / "folder").mkdir()
    refused("is a folder", tmp_path / "folder")
    assert (tmp_path / "file").read_bytes() == b"mine" and (tmp_path / "folder").is_dir()


@pytest.mark.parametrize("layout", ["diffusers", "peft"])
def test_devices_and_pipes_stay(layout, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused("is a device", tmp_path / "pipe", layout)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("layout", ["diffusers", "peft"])
def test_links_are_followed(layout, tmp_path):
    real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
    real.parent.mkdir()
    link.symlink_to(real)
    save_lora(LORA, link, layout)
    assert link.is_symlink() and load_lora(real).layers.keys() == LORA.layers.keys()
    with pytest.raises(LorararError, match="--force"):
        save_lora(LORA, link, layout)
    save_lora(LORA, link, layout, force=True)
    assert link.is_symlink() and os.listdir(real.parent) == ["real"]


def test_new_files_have_the_umask_s_permissions_and_replaced_ones_their_own(tmp_path):
    before = os.umask(0o077)
    try:
        for name, force in (("new", False), ("old", True)):
            if force:
                (tmp_path / name).write_bytes(b"")
                (tmp_path / name).chmod(0o640)
            write_atomically(tmp_path / name, lambda file: file.write(b"x"), force)
        write_folder_atomically(tmp_path / "folder", lambda folder: None, force=False)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"new": 0o600, "old": 0o640, "folder": 0o700}
