"""Torch models: MF, LightGCN, the two-tower and the sequence two-tower, and their ONNX export."""
