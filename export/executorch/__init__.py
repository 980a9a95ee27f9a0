"""Export to ExecuTorch, lowered for XNNPACK, Vulkan or Core ML: a UNet in stages."""
