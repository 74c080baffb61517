import pytest
import torch

from lessexp.gradients.hadamard import walsh_hadamard


@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_it_is_the_product_with_sylvesters_matrix(n):
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < n:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64), matrix)
    values = torch.randn(3, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(walsh_hadamard(values), values @ matrix / n**0.5, rtol=1e-12, atol=1e-12)


def test_twice_is_once_back():
    values = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(walsh_hadamard(walsh_hadamard(values)), values)


@pytest.mark.parametrize("n", [0, 3, 12])
def test_other_lengths_are_refused(n):
    with pytest.raises(ValueError, match=f"got a length of {n}"):
        walsh_hadamard(torch.zeros(2, n))
