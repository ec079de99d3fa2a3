"""Data: CIFAR-10 and CIFAR-100 as tensors, Shapes-10 where there is no CIFAR, batched augmentation; ImageNet in files.

Stick figures with keypoints are drawn by :func:`poses`.

>>> data = load("cifar10")
>>> images = crop_and_flip(pad(data.train_images, value=data.mean))
"""

from cnnlib.data.augment import crop_and_flip, normalise, pad
from cnnlib.data.cifar import NAMES, FileCheck, StandInWarning, cache_folder, data_folder, fetch, load, verify
from cnnlib.data.download import PATIENT, Limits
from cnnlib.data.folders import ImageFolders, Images, image_folders
from cnnlib.data.images import DataError, ImageError, ImageSet
from cnnlib.data.poses import JOINTS, PoseSet, poses
from cnnlib.data.shapes import shapes10

load_data = load

__all__ = [
    "JOINTS",
    "NAMES",
    "PATIENT",
    "DataError",
    "FileCheck",
    "ImageError",
    "ImageFolders",
    "ImageSet",
    "Images",
    "Limits",
    "PoseSet",
    "StandInWarning",
    "cache_folder",
    "crop_and_flip",
    "data_folder",
    "fetch",
    "image_folders",
    "load",
    "load_data",
    "normalise",
    "pad",
    "poses",
    "shapes10",
    "verify",
]
