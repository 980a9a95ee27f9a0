"""Export to ONNX, for ONNX Runtime: quantised in blocks, with slots for pairs of LoRAs."""
