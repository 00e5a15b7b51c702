"""The model: where it comes from, its graph, its execution in PyTorch, its clean-up passes."""
