"""Drawing with torch: pipelines of diffusers, and UNets that carry two LoRAs."""
