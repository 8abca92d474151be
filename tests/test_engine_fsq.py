"""Finite scalar quantisation against the enumeration of all codes."""

import itertools

import pytest
import torch

from hpro_core.speech import fsq

BOOKS = [(6, 4), (5, 3), (4, 3), (3, 8)]  # 1296 content, 125 or 64 style, 6561 speech codes


@pytest.mark.parametrize(("levels", "dimensions"), BOOKS)
def test_every_code_has_its_own_index_and_comes_back(levels, dimensions):
    grid = [i / (levels - 1) for i in range(levels)]
    # The first dimension counts least: enumerate with it running fastest.
    codes = torch.tensor([c[::-1] for c in itertools.product(grid, repeat=dimensions)])
    indices = fsq.to_indices(codes, levels)
    assert indices.tolist() == list(range(levels**dimensions))
    torch.testing.assert_close(fsq.from_indices(indices, levels, dimensions), codes)


@pytest.mark.parametrize(("levels", "dimensions"), BOOKS)
def test_bfloat16_input_keeps_every_code_apart(levels, dimensions):
    every = torch.arange(levels**dimensions)
    codes = fsq.from_indices(every, levels, dimensions).bfloat16()
    rounded = fsq.quantise(codes, levels)
    assert rounded.dtype == torch.float32
    assert torch.equal(fsq.to_indices(rounded, levels), every)


def test_rounding_is_to_the_nearest_level_and_outside_is_clamped():
    latent = torch.tensor([-0.3, 0.09, 0.11, 0.5, 0.72, 1.4])
    expected = torch.tensor([0.0, 0.0, 0.2, 0.4, 0.8, 1.0])  # 2.5 levels round to even, 2
    torch.testing.assert_close(fsq.quantise(latent, 6), expected)


def test_the_gradient_passes_straight_through():
    latent = torch.tensor([0.1, 0.33, 0.9], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 3.0])
    (fsq.quantise(latent, 5) * weights).sum().backward()
    assert torch.equal(latent.grad, weights)
