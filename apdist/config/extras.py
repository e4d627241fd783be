"""The extras: packages beyond those of every training, and how to get them."""

EXTRAS = {
    "faiss-cpu": "faiss",
    "fast-decode": "simplejpeg",
    "hub": "transformers",
    "lite0": "efficientnet_lite_pytorch",
    "lora": "peft",
    "metric-learning": "pytorch_metric_learning",
    "onnx": "onnxscript",
    "optuna": "optuna",
}
"""Each with a module that it brings; faiss-gpu and triton are for GPUs."""


def install(*extras: str) -> str:
    """The command that installs ``extras``, wherever apdist came from.

    apdist is on no index and need not be: pip takes the one that is installed beside it.
    """
    return f"pip install 'apdist[{','.join(extras)}]'"
