"""Layers with PyTorch's names, constructor arguments, initial distributions and `state_dict` keys."""
from scratchgan.nn import init
from scratchgan.nn.activation import (
    ELU,
    GELU,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from scratchgan.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from scratchgan.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from scratchgan.nn.dropout import Dropout, Dropout2d
from scratchgan.nn.linear import Embedding, Identity, Linear
from scratchgan.nn.loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss, SmoothL1Loss
from scratchgan.nn.module import Module
from scratchgan.nn.norm import BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm1d, InstanceNorm2d, LayerNorm
from scratchgan.nn.parameter import Parameter
from scratchgan.nn.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from scratchgan.nn.resample import (
    PixelShuffle,
    PixelUnshuffle,
    ReflectionPad2d,
    ReplicationPad2d,
    Unfold,
    Upsample,
    ZeroPad2d,
)
from scratchgan.nn.shape import Flatten, Unflatten
from scratchgan.nn.spectral_norm import spectral_norm

__all__ = [
    "init", "ELU", "GELU", "LeakyReLU", "LogSigmoid", "LogSoftmax", "PReLU", "ReLU", "Sigmoid", "SiLU",
    "Softmax", "Softplus", "Tanh", "ModuleDict", "ModuleList", "ParameterList", "Sequential", "Conv1d", "Conv2d",
    "ConvTranspose1d", "ConvTranspose2d", "Dropout", "Dropout2d", "Embedding", "Identity", "Linear",
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "L1Loss", "MSELoss", "NLLLoss", "SmoothL1Loss",
    "Module", "BatchNorm1d", "BatchNorm2d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "LayerNorm",
    "Parameter", "AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d", "PixelShuffle", "PixelUnshuffle",
    "ReflectionPad2d", "ReplicationPad2d", "Unfold", "Upsample", "ZeroPad2d", "Flatten", "Unflatten", "spectral_norm",
]
