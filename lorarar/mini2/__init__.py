"""The second small world: drawings of 128 pixels, and the SDXL-class model trained on them."""
