"""What every test needs before anything imports torchvision."""

import torch

if torch.version.cuda is None:
    # The only torchvision wheel that fits keeps its operators in a library that needs CUDA; declared, never run.
    _TORCHVISION_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
    _TORCHVISION_OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _TORCHVISION_OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
