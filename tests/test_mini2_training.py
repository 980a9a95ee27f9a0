"""The second small world: what is trained on its drawings."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import lorarar.mini2.autoencoder
from lorarar.mini2.autoencoder import PERIOD, PIECE, _pieces, decode, encode, train_vae
from lorarar.mini2.base import embed, load_base, make_denoiser, save_base
from lorarar.mini2.denoising import kept_shares, noisy, sample, starts
from lorarar.mini2.judge import Album, Judge, shifted
from lorarar.mini2.lanes import Factors, Lanes, beside, load_loras, save_loras, take
from lorarar.mini2.machine import Clock
from lorarar.mini2.model import make_pipeline, make_vae
from lorarar.mini2.optimise import train
from lorarar.mini2.pack import write_loras
from lorarar.mini2.samples import QUESTIONS, Drawings, base_chunk


@pytest.fixture(scope="module")
def model():
    return make_denoiser(0).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def lanes(model):
    return Lanes(model.unet)


def random_loras(lanes, count, rank=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: Factors(
            torch.randn(count, out, rank, generator=generator) * 0.05,
            torch.randn(count, rank, width, generator=generator) * 0.05,
        )
        for name, (out, width) in lanes.shapes.items()
    }


def inputs(count):
    generator = torch.Generator().manual_seed(1)
    shapes = (count, 8, 16, 16), (count, 24, 224), (count, 128)
    noise, words, pooled = (torch.randn(shape, generator=generator) for shape in shapes)
    return noise, torch.full((count,), 300), words, pooled


def test_a_lane_is_what_its_lora_adds_to_the_weights(model, lanes):
    loras, given = random_loras(lanes, 2), inputs(4)
    with torch.no_grad():
        lanes.carry(loras)
        found = model(*given)
        lanes.carry(None)
        for lane in range(2):
            rows = slice(2 * lane, 2 * lane + 2)
            for sign in (1, -1):
                for name, layer in lanes.layers.items():
                    delta = loras[name].up[lane] @ loras[name].down[lane]
                    layer.linear.weight += sign * delta
                if sign == 1:
                    wanted = model(*(part[rows] for part in given))
            assert torch.allclose(found[rows], wanted, atol=1e-5)


def test_ranks_side_by_side_are_the_sum(lanes):
    first, second = random_loras(lanes, 2), random_loras(lanes, 2, 5, seed=1)
    both = beside(first, second)
    name = next(iter(both))
    wanted = first[name].up @ first[name].down + second[name].up @ second[name].down
    assert torch.allclose(both[name].up @ both[name].down, wanted, atol=1e-6)


def test_loras_survive_their_file(lanes, tmp_path):
    loras = random_loras(lanes, 3)
    save_loras(loras, ["a", "b", "c"], tmp_path / "loras.safetensors")
    read, names = load_loras(tmp_path / "loras.safetensors", ["c", "a"])
    wanted = take(loras, [2, 0])
    assert names == ["c", "a"]
    for name, factors in wanted.items():
        assert torch.allclose(read[name].up, factors.up, atol=1e-3)
        assert torch.allclose(read[name].down, factors.down, atol=1e-3)


def test_a_base_survives_its_file_under_any_transformers(tmp_path):
    path, made = tmp_path / "base.safetensors", make_denoiser(3)
    save_base(made, path)
    weights = load_file(path)
    assert not any("text.text_model." in name for name in weights)  # as transformers 4 alone has it
    assert made.text.config.hidden_size == weights["text.final_layer_norm.weight"].numel()
    again = load_base(path).state_dict()
    for name, weight in made.state_dict().items():
        assert torch.equal(again[name], weight.half().float())
    del weights["text.final_layer_norm.weight"]
    save_file(weights, path)
    with pytest.raises(RuntimeError, match="final_layer_norm"):
        load_base(path)


def test_an_empty_prompt_is_zeros(model):
    words, pooled = embed(model, ["", "a zupra robot in ink style"])
    assert not words[0].any() and not pooled[0].any()
    assert words[1].any() and pooled[1].any()


def test_pictures_do_not_depend_on_their_batch(model):
    words, pooled = embed(model, ["a red dog", "a blue cat"])
    empty = embed(model, [""])
    both = sample(model, words, pooled, empty, starts([3, 4]), steps=2)
    one = sample(model, words[1:], pooled[1:], empty, starts([4]), steps=2)
    assert torch.allclose(both[1:], one, atol=0.05 * float(both.std()))  # bfloat16 where it is fast


def test_noise_keeps_the_schedule():
    torch.manual_seed(0)
    kept = kept_shares()
    latents = torch.randn(512, 8, 16, 16)
    mixed, times, noise, weights = noisy(latents, kept)
    share = kept[times].view(-1, 1, 1, 1)
    assert torch.allclose(mixed, share.sqrt() * latents + (1 - share).sqrt() * noise, atol=1e-5)
    assert float(weights.max()) == 1 and len(times.unique()) > 300


def test_training_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr("lorarar.mini2.optimise.SAVE_SECONDS", -1)

    def run(state, stop=10**9):
        torch.manual_seed(0)
        layer, data = nn.Linear(4, 1), torch.arange(40.0).view(10, 4) / 40
        calls = []

        def each(index):
            calls.append(index)
            if index == stop:
                raise KeyboardInterrupt

        def loss():
            return (layer(data) - data.sum(1, keepdim=True)).square().mean()

        train(layer, loss, 20, 0.1, Clock("test"), mean=0.5, each=each, state=state)
        return layer.weight.detach(), calls

    whole, _ = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "state.pt", stop=12)
    resumed, calls = run(tmp_path / "state.pt")
    assert calls[0] == 12 and torch.allclose(whole, resumed)


def test_pieces_begin_where_textures_repeat():
    ramp = torch.arange(128, dtype=torch.uint8)
    pictures = torch.stack([ramp.view(128, 1).expand(128, 128), ramp.expand(128, 128)], -1)[None]
    pieces = _pieces(pictures, torch.zeros(20, dtype=torch.long))
    assert pieces.shape == (20, PIECE, PIECE, 2)
    assert not (pieces[:, 0, 0] % PERIOD).any() and len(pieces[:, 0, 0].unique()) > 2


def test_autoencoder_learns_from_pieces_then_from_whole_drawings(monkeypatch):
    seen = []
    error = lorarar.mini2.autoencoder._error
    monkeypatch.setattr(
        "lorarar.mini2.autoencoder._error",
        lambda vae, shown: seen.append(tuple(shown.shape)) or error(vae, shown),
    )
    album = Album(Drawings(lambda number: base_chunk(number, 8), 0, 1, None))
    album.fill(wait=1)
    vae, done = train_vae(album, 4, 4, Clock("test"))
    assert done == 4 and seen == [(4, 3, 64, 64)] * 3 + [(1, 3, 128, 128)]
    latents = encode(vae, album.pictures[:2])
    assert latents.shape == (2, 8, 16, 16)
    assert decode(vae, latents).shape == (2, 3, 128, 128)


def test_shifted_pictures_are_the_same_pictures():
    picture = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    picture[0, 60:64, 60:64] = 255
    moved = shifted(picture, torch.zeros(16, dtype=torch.long))
    assert moved.shape == (16, 3, 128, 128)
    assert torch.allclose(moved.sum((1, 2, 3)), torch.full((16,), 48.0))


def test_an_album_fills_and_the_judge_answers_every_question():
    album = Album(Drawings(base_chunk, 0, 2, None))
    album.fill(wait=1)
    assert album.filled == 256 == int(album.count)
    said = Judge().eval()(album.pictures[:2].permute(0, 3, 1, 2) / 255)
    assert [part.shape[1] for part in said] == [len(known) for known in QUESTIONS.values()]
    assert np.array_equal(album.answers[:128].numpy(), base_chunk(0).answers)


def test_diffusers_pipeline_draws_what_is_sampled_here(monkeypatch):
    monkeypatch.setattr("lorarar.mini2.machine.precision", lambda: torch.float32)
    model, vae = make_denoiser(1).eval(), make_vae().eval()
    prompts = ["a zupra robot on grass in ink style", "a red dog with spots"]
    noise = starts([0, 1])
    found = sample(model, *embed(model, prompts), embed(model, [""]), noise, 2, 5.0)
    pipeline = make_pipeline(model, vae)
    drawn = pipeline(
        prompts,
        latents=noise.clone(),
        num_inference_steps=2,
        guidance_scale=5.0,
        height=128,
        width=128,
        output_type="latent",
    ).images
    assert torch.allclose(found, drawn, atol=1e-3 * float(drawn.std()))


def test_packed_loras_are_in_the_canonical_layout(lanes, tmp_path):
    loras = random_loras(lanes, 2)
    save_loras(loras, ["a", "b"], tmp_path / "all.safetensors")
    write_loras(tmp_path / "all.safetensors", tmp_path / "loras", ["a", "b"])
    read = load_file(tmp_path / "loras" / "b.safetensors")
    assert len(read) == 2 * len(loras)
    for name, factors in loras.items():
        assert torch.allclose(read[f"{name}.lora_A.weight"].float(), factors.down[1], atol=1e-3)
        assert torch.allclose(read[f"{name}.lora_B.weight"].float(), factors.up[1], atol=1e-3)
