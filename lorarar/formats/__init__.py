"""What files and folders of LoRAs hold: their sources, their layers, kinds that are not plain."""
