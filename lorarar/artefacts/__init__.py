"""What exports and folders of LoRAs look like from outside, for those who write and who read."""
