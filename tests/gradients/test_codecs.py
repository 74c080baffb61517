import pytest
import torch

from lessexp.gradients.codecs import CODECS

BITS = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8, "int4": 4, "int1": 1}
every_codec = pytest.mark.parametrize("name", CODECS)


def rows(n=20, width=64):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(0)) * torch.logspace(-8, 4, n)[:, None]


@every_codec
def test_a_row_takes_the_bits_its_name_says(name):
    stored, scale = CODECS[name].encode(rows())
    assert stored.numel() * stored.element_size() * 8 == BITS[name] * 20 * 64
    assert scale.dtype == torch.float32


@every_codec
@pytest.mark.parametrize("width", [1, 7, 8, 65])
def test_any_width_comes_back_in_the_right_order(name, width):
    signs = torch.where(torch.rand(5, width, generator=torch.Generator().manual_seed(1)) < 0.5, -1.0, 1.0)
    stored, scale = CODECS[name].encode(signs * 3)
    torch.testing.assert_close(CODECS[name].decode(stored, width) * scale[:, None], signs * 3)


@every_codec
def test_a_row_is_stored_alike_whatever_its_neighbours_and_its_size(name):
    stored, _ = CODECS[name].encode(rows())
    alone, _ = CODECS[name].encode(rows()[3:4] * 2.0**20)
    assert torch.equal(stored[3:4], alone)


# Angle between a normal row and its stored form: error/sqrt(3) of a step, and sqrt(2/pi) for signs alone.
@pytest.mark.parametrize(
    ("name", "cosine"), [("float16", 0.999999), ("bfloat16", 0.99999), ("int8", 0.9999), ("int4", 0.98), ("int1", 0.79)]
)
def test_directions_survive(name, cosine):
    wide = rows(width=4096)
    stored, _ = CODECS[name].encode(wide)
    found = torch.nn.functional.cosine_similarity(CODECS[name].decode(stored, 4096), wide)
    assert found.min() > cosine - 0.01 * (name == "int1")


@every_codec
@pytest.mark.parametrize("width", [1, 7, 64, 65, 1500])
@pytest.mark.parametrize("n_vectors", [1, 57])
def test_products_are_those_of_the_decoded_rows(name, width, n_vectors):
    stored, _ = CODECS[name].encode(rows(width=width))
    vectors = torch.randn(width, n_vectors, generator=torch.Generator().manual_seed(2))
    multiply = CODECS[name].products(vectors)
    decoded, exact = CODECS[name].decode(stored, width).double(), vectors.double()
    rounding = 1e-6 * decoded.abs() @ exact.abs()  # 16 roundings of float32 in a sum's every term; they partly cancel
    # The same function serves shards of any size, one after the other.
    for n in (2, 20, 3):
        assert ((multiply(stored[:n]) - decoded[:n] @ exact).abs() <= rounding[:n] + 1e-6).all()
