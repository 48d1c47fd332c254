"""Fast, honest training of small image networks on CIFAR-10."""

__version__ = "0.1.0"
