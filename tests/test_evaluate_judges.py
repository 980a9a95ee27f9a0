"""Judges of this machine: the small world's classifier and vision-language models; similarities."""

import asyncio
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from typer.testing import CliRunner

from lorarar.benchmarks.pictures import Task, measure
from lorarar.benchmarks.quality import open_studio, summarise_all
from lorarar.cli import cli
from lorarar.embedded import EMBEDDED
from lorarar.errors import LorararError
from lorarar.evaluate.calls import Call
from lorarar.evaluate.drawings import write_drawings
from lorarar.evaluate.evaluation import Job, evaluate, find
from lorarar.evaluate.folder import find_pictures, find_references
from lorarar.evaluate.judges import JudgeOptions, judge_name, open_judge
from lorarar.evaluate.metrics import similarities

WORDS = ["<pad>", "<unk>", "<s>", "</s>", "<image>", "yes", "no", "perhaps"]
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
VISION = {**SMALL, "num_hidden_layers": 2, "image_size": 28, "patch_size": 14, "projection_dim": 8}


@pytest.fixture(autouse=True)
def one_thread():
    """Small models are slowest on cores that others use, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(*arguments) -> object:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=16,
    )


def image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    """Write a LLaVA of random weights that says one word, after which it ends."""

    def make(word: str) -> Path:
        folder = tmp_path_factory.mktemp(word) / "llava"
        torch.manual_seed(0)
        text = LlamaConfig(
            vocab_size=len(WORDS), **SMALL, num_hidden_layers=1, num_key_value_heads=2,
            pad_token_id=0, bos_token_id=2, eos_token_id=3,
        )  # fmt: skip
        vision = CLIPVisionConfig(**VISION)
        model = LlavaForConditionalGeneration(
            LlavaConfig(vision_config=vision, text_config=text, image_token_index=4)
        )
        _teach(model, word)
        model.save_pretrained(folder)
        LlavaProcessor(
            image_processor(), tokenizer(), patch_size=14, chat_template=TEMPLATE,
            vision_feature_select_strategy="default", num_additional_image_tokens=1,
        ).save_pretrained(folder)  # fmt: skip
        return folder

    return make


@torch.no_grad()
def _teach(model: LlavaForConditionalGeneration, word: str) -> None:
    """The last token alone says what comes next: the word after a full stop, then the end."""
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.zero_()
    known = torch.nn.functional.normalize(model.get_input_embeddings().weight, dim=1)
    weight = model.lm_head.weight
    weight.zero_()
    weight[WORDS.index(word)] = 8 * known[WORDS.index("<unk>")]
    weight[WORDS.index("</s>")] = 8 * known[WORDS.index(word)]


def asked_of(folder: Path, tmp_path: Path, form: str = "yes or no"):
    paths = []
    for shade in (60, 150):
        paths.append(tmp_path / f"{shade}.png")
        Image.fromarray(np.full((40, 30, 3), shade, np.uint8)).save(paths[-1])

    async def ask():
        async with open_judge(JudgeOptions(str(folder))) as judge:
            return await judge(Call("q", form, "yes or no .", tuple(paths), 32, 4))

    return asyncio.run(ask())


@pytest.mark.parametrize(("word", "low", "high"), [("yes", 0.9, 1), ("no", 0, 0.1)])
def test_a_vision_language_model_answers_and_its_logits_say_how_surely(
    speaker, tmp_path, word, low, high
):
    reply = asked_of(speaker(word), tmp_path)
    assert reply.text.strip() == word and low <= reply.yes <= high
    assert (reply.input_tokens, reply.output_tokens) == (2 * 4 + 4, 2)


def test_no_probability_is_read_where_the_model_says_neither(speaker, tmp_path):
    reply = asked_of(speaker("perhaps"), tmp_path)
    assert (reply.text.strip(), reply.yes) == ("perhaps", None)
    assert asked_of(speaker("yes"), tmp_path, "grade").yes is None


def test_a_local_model_judges_a_folder_and_its_name_follows_its_weights(speaker, tmp_path):
    write_drawings(tmp_path / "d", 4, scale=2)
    folder = speaker("yes")
    arguments = ("evaluate", tmp_path / "d" / "pictures", "--references", tmp_path / "d/references")
    done = run(*arguments, "--judge", folder, "-o", tmp_path / "r")
    assert done.exit_code == 0, done.output
    (row,) = json.loads((tmp_path / "r" / "results.json").read_text())["rows"]
    assert (row["both"], row["unclear"], row["pictures"]) == (1, 0, 4)
    assert judge_name(JudgeOptions(str(folder))) != judge_name(JudgeOptions(str(speaker("no"))))


def test_pickled_weights_are_not_read(speaker, tmp_path):
    folder = speaker("yes")
    weights = folder / "model.safetensors"
    torch.save({}, folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(LorararError, match=r"holds no \.safetensors"):
        judge_name(JudgeOptions(str(folder)))
    with pytest.raises(LorararError, match="cannot be loaded"):
        asked_of(folder, tmp_path)


def test_drawings_tell_how_often_a_judge_is_right(tmp_path):
    """Calibration: the small world's classifier against what the drawings show."""
    assert run("drawings", "-o", tmp_path / "d", "--pictures", 40).exit_code == 0
    results = []
    for extra in ((), ("--swapped",), ("--again", 1)):
        results.append(tmp_path / f"r{len(results)}")
        done = run(
            "evaluate", tmp_path / "d" / "pictures", "--judge", "embedded", "--references",
            tmp_path / "d" / "references", "-o", results[-1], *extra,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    path = tmp_path / "agreement.json"
    done = run("agreement", *results, "--votes", tmp_path / "d" / "truth.csv", "-o", path)
    assert done.exit_code == 0, done.output
    rows = json.loads(path.read_text())["rows"]
    truth = [row for row in rows if row["raters"][-1] == "truth" and len(row["raters"]) == 2]
    assert len(truth) == 6 and all(row["accuracy"] >= 0.95 for row in truth)
    itself = [row for row in rows if "truth" not in row["raters"]]
    assert len(itself) == 6 and all((row["kappa"], row["bias"]) == (1, 0) for row in itself)
    with (tmp_path / "d" / "truth.csv").open() as file:
        answers = [row["answer"] for row in csv.DictReader(file)]
    assert answers.count("yes") == answers.count("no") == 40


def test_the_quality_benchmarks_table_comes_out_the_same_to_the_picture(tmp_path):
    """One picture a task: equal shares are equal verdicts on each picture."""
    studio = open_studio(tmp_path / "quality", EMBEDDED, images=1)
    pairs = [("kytol", "frost"), ("jumek", "ink")]
    tasks = [Task("lorarar", *pair) for pair in pairs]
    tasks += [Task("content", "votol", None), Task("style", None, "frost")]
    direct = measure(studio, tasks, Console(quiet=True))
    lines = [
        {
            "file_name": str(studio.paths(task)[0].relative_to(studio.folder)),
            "method": task.method,
            "subject": task.content or "dog",
            "style": task.style or "plain",
        }
        for task in tasks
    ]
    manifest = studio.folder / "metadata.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = Job(studio.folder, None, tmp_path / "judged", JudgeOptions("embedded"))
    _, results = evaluate(find(job))
    for row in summarise_all(direct):
        (ours,) = (each for each in results["rows"] if each["method"] == row["name"])
        for what in ("content", "style", "both"):
            assert ours[what] == row[what]
            assert ours[f"{what}_low"] == pytest.approx(row[f"{what}_low"], abs=1e-9)
    each = {(p["method"], p["subject"], p["style"]): p["means"] for p in results["pairs"]}
    for task, result in direct.items():
        means = each[task.method, task.content or "dog", task.style or "plain"]
        assert means == {
            "content": result.content_right, "style": result.style_right, "both": result.both_right
        }  # fmt: skip


def test_the_embedded_judge_says_what_it_does_not_know(tmp_path):
    picture = tmp_path / "dog" / "watercolor" / "0.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(picture)
    common = ("evaluate", tmp_path, "--judge", "embedded", "-o", tmp_path.with_name("r"))
    assert "knows no style 'watercolor'; it knows" in str(run(*common).exception)
    assert "mars2 only" in str(run(*common, "--questions", "reasoned").exception)
    neon = tmp_path / "dog" / "neon" / "0.png"
    picture.parent.rename(neon.parent)
    Image.new("RGB", (65, 64)).save(neon)
    assert "has seen 64 x 64 only" in str(run(*common).exception)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """CLIP, DINOv2 and a style descriptor, all of random weights."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(WORDS), **SMALL, num_hidden_layers=1, projection_dim=8,
        max_position_embeddings=16, eos_token_id=3,
    )  # fmt: skip
    clip = CLIPConfig(
        text_config=text.to_dict(), vision_config=CLIPVisionConfig(**VISION).to_dict(),
        projection_dim=8,
    )  # fmt: skip
    CLIPModel(clip).save_pretrained(folder / "clip")
    CLIPProcessor(image_processor(), tokenizer()).save_pretrained(folder / "clip")
    dino = Dinov2Config(**SMALL, num_hidden_layers=1, image_size=28, patch_size=14)
    Dinov2Model(dino).save_pretrained(folder / "dino")
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(folder / "csd")
    for name in ("dino", "csd"):
        image_processor().save_pretrained(folder / name)
    return folder


def test_similarities_are_one_beside_the_picture_itself_and_say_what_is_missing(weights, tmp_path):
    write_drawings(tmp_path / "d", 3)
    pictures = find_pictures(tmp_path / "d" / "pictures")
    manifest = tmp_path / "d" / "pictures" / "metadata.jsonl"
    references = find_references(tmp_path / "d" / "references", pictures)
    folders = {name: weights / name for name in ("clip", "dino", "csd")}
    rows, skipped = similarities(pictures, references, folders)
    assert skipped == {"clip_t": "no picture has a prompt"}
    assert all(row.keys() == {"clip_i", "dino", "csd"} for row in rows)
    assert all(-1 <= value < 0.99999 for row in rows for value in row.values())
    prompted = [json.loads(line) | {"prompt": "yes no"} for line in manifest.open()]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in prompted))
    (first, *_) = pictures  # its own reference
    references.subject[first.subject] = references.style[first.style] = [first.path]
    rows, skipped = similarities(find_pictures(manifest.parent), references, folders)
    assert not skipped and all("clip_t" in row for row in rows)
    own = {name: value for name, value in rows[0].items() if name != "clip_t"}
    assert own == pytest.approx(dict.fromkeys(own, 1.0), abs=1e-5)
    rows, skipped = similarities(pictures, references, {"clip": tmp_path, "dino": None})
    assert rows == [{}] * 3 and {*skipped} == {"clip_i", "clip_t", "dino", "csd"}
    assert "cannot be loaded" in skipped["clip_i"] and "--dino FOLDER" in skipped["dino"]
