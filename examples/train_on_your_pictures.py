"""Train LoRAs and a hypernetwork on your own pictures: a folder for each subject and each style.

pictures/content/zupra dog/*.jpg is taught as "a zupra dog" (a word that the model does not know
tells your dog from others), pictures/style/ink/*.jpg as "a picture in ink style". One pair is kept
to validate on, so it takes two subjects or two styles at least; a useful hypernetwork takes many.

python examples/train_on_your_pictures.py pictures --model stabilityai/stable-diffusion-xl-base-1.0
"""

import argparse
import json
from pathlib import Path

from lorarar.training.hypernet import train_hypernet
from lorarar.training.many import train_many
from lorarar.training.recipes import HypernetRecipe

PROMPTS = {"content": "a {}", "style": "a picture in {} style"}
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("pictures", type=Path, help="a folder with content/ and style/")
parser.add_argument("--model", help="an SDXL-class model; the small one of lorarar by default")
parser.add_argument("--lora-steps", type=int, default=1000)
parser.add_argument("--hypernet-steps", type=int, default=5000)
asked = parser.parse_args()

loras = []
for kind, prompt in PROMPTS.items():
    for name in sorted(folder.name for folder in (asked.pictures / kind).glob("*/")):
        lora = {"file": f"{name}.safetensors", "kind": kind, "images": f"{kind}/{name}"}
        loras.append(lora | {"prompt": prompt.format(name)})
content = {"format": "lorarar.manifest.1", "recipe": {"steps": asked.lora_steps}, "loras": loras}
manifest = asked.pictures / "manifest.json"
manifest.write_text(json.dumps(content, indent=1))

for trained in train_many(asked.model, manifest):
    print(f"{trained}: trained")
hypernet = asked.pictures / "hypernet.safetensors"
recipe = HypernetRecipe(steps=asked.hypernet_steps, validation_pairs=1)
train_hypernet(asked.model, manifest, hypernet, recipe)
print(f"{hypernet}: trained; merge with: lorarar merge CONTENT STYLE --hypernet {hypernet} -o OUT")
