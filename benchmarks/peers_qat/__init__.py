"""The peers' quantization-aware training, each in its own environment, by one loop."""
