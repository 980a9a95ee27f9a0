"""Where a benchmark runs: here, under emulation, on a phone (docs/devices.md)."""
