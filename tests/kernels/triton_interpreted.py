"""Run with TRITON_INTERPRET=1: the Triton kernel of `augment` on the CPU, saved for test_augment_triton.py to judge.

Usage: triton_interpreted.py FILE, with a torch file of cases {name: arguments of `launch`}; it gets the results.
"""

import sys

import torch

from fastcifar_kernels.augment.triton_kernel import launch

if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = torch.load(sys.argv[1])
    torch.save({name: launch(*arguments) for name, arguments in cases.items()}, sys.argv[1])
