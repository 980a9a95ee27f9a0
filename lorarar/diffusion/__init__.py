"""Drawing with torch: diffusers' pipelines, and LoRAs put into them."""
