"""Dogs and no dogs of ImageNet, or any two folders of images."""
