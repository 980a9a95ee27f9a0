"""The small world: drawings, and the SDXL-class model that is trained on them."""
