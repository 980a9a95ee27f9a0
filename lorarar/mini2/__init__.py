"""The second small world: drawings of 128 pixels, and the SDXL-class model to train on them.

Nothing uses it yet: no trained model of it is kept, and it will replace `lorarar.mini` once its
gates hold.
"""
