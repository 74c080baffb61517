import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lessexp.gradients.projection import ProjectorStack, RademacherProjector
from lessexp.gradients.random_bits import key_of, random_sign_matrix

triton = pytest.importorskip("triton", minversion="3.3")

from lessexp.gradients import rademacher_triton  # noqa: E402  (needs Triton)

KEY = key_of(3, "layer.lora_A.weight")

# batch, rows, columns, start. The interpreted kernel works on blocks of 16 to 64 examples, 64 rows and 128 columns.
CASES = {
    "a single entry": (1, 1, 1, 0),
    "less than a word of columns": (3, 100, 5, 17),
    "columns that are no multiple of 32": (3, 130, 100, 0),
    "several blocks of columns": (2, 70, 300, 1),
    "several blocks of examples": (70, 65, 33, 4090),
    "several splits of several blocks": (4, 1000, 64, 4000),
    "rows across 2**32": (2, 100, 48, 2**32 - 50),
    "rows far above 2**32": (2, 100, 48, 2**41 + 12345),
}
# Triton decides when it is imported whether to interpret kernels on the CPU, hence a process of its own.
INTERPRET = """
import sys

import torch
import triton.language as tl
from safetensors.torch import load_file, save_file

from lessexp.gradients import projection, rademacher_triton

inputs, outputs, key = sys.argv[1], sys.argv[2], int(sys.argv[3])
rademacher_triton._DOT_DTYPE = tl.float32  # the interpreter would multiply the bit patterns of bfloat16 as integers
rademacher_triton._PROGRAMS = 4
rademacher_triton._ENTRIES_AT_ONCE = 2048
results = {}
for name, tile in load_file(inputs).items():
    case, proj_dim, start = name.split("|")
    total = torch.zeros(len(tile), int(proj_dim))
    rademacher_triton.add_projection(total, tile, key=key, start=int(start))
    results[name] = total

projection._fused_kernel = lambda device: rademacher_triton.add_projection
stack = projection.ProjectorStack([projection.RademacherProjector(dim, dim) for dim in (20, 48)])
results["stack"] = stack.project({"a": torch.eye(6).reshape(6, 2, 3), "b": torch.eye(6) / 3})
save_file(results, outputs)
"""


def label(case):
    _, _, proj_dim, start = CASES[case]
    return f"{case}|{proj_dim}|{start}"


def exact_projection(tile, proj_dim, start):
    rows = torch.arange(start, start + tile.shape[1], device=tile.device)
    return tile.double() @ random_sign_matrix(KEY, rows, proj_dim).double() / proj_dim**0.5


def assert_accurate(found, tile, proj_dim, start):
    # In units of the size of an entry: some 16 roundings of a float32. Two of three parts would miss by more.
    size = tile.double().norm(dim=1, keepdim=True) / proj_dim**0.5
    error = (found.double() - exact_projection(tile, proj_dim, start)) / size
    assert error.abs().max() < 2e-6, error.abs().max()


@pytest.fixture(scope="module")
def tiles():
    generator = torch.Generator().manual_seed(0)
    tiles = {label(case): torch.randn(size[:2], generator=generator) for case, size in CASES.items()}
    tiles[f"identity|100|{2**32 - 20}"] = torch.eye(40)
    return tiles


@pytest.fixture(scope="module")
def interpreted(tiles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("interpreted")
    save_file(tiles, folder / "tiles.safetensors")
    subprocess.run(
        [sys.executable, "-c", INTERPRET, folder / "tiles.safetensors", folder / "totals.safetensors", str(KEY)],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
    return load_file(folder / "totals.safetensors")


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_is_as_accurate_as_float32_in_any_shape(case, tiles, interpreted):
    _, _, proj_dim, start = CASES[case]
    assert_accurate(interpreted[label(case)], tiles[label(case)], proj_dim, start)


def test_every_sign_is_the_one_that_torch_draws(interpreted):
    signs = random_sign_matrix(KEY, torch.arange(2**32 - 20, 2**32 + 20), 100)
    assert torch.equal(interpreted[f"identity|100|{2**32 - 20}"], signs * 100**-0.5)


def test_projectors_with_the_kernel_add_what_they_add_without(interpreted):
    stack = ProjectorStack([RademacherProjector(dim, dim) for dim in (20, 48)])
    expected = stack.project({"a": torch.eye(6).reshape(6, 2, 3), "b": torch.eye(6) / 3})
    torch.testing.assert_close(interpreted["stack"], expected, rtol=1e-6, atol=1e-6)  # summed in another order


def test_three_parts_hold_all_bits_of_a_float32():
    generator = torch.Generator().manual_seed(0)
    exponents = torch.randint(-60, 60, (5, 300), generator=generator)
    tile = torch.randn(5, 300, generator=generator) * 2.0**exponents
    parts = rademacher_triton.bfloat16_parts(tile, 320).double()
    assert torch.equal(parts.sum(0)[:, :300], tile.double())
    assert not parts[:, :, 300:].any()


@pytest.mark.parametrize("capability", [80, 90], ids=["Ampere", "Hopper"])
@pytest.mark.parametrize("block_batch", [16, 64])
def test_the_kernel_compiles_to_tensor_core_code_that_fits_the_gpu(capability, block_batch, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {"parts": "*bf16", "partial_sums": "*fp32", "start": "i64", "scale": "fp32"}
    types |= {"batch": "i32", "n_rows": "i32", "n_columns": "i32", "rows_per_split": "i32"}
    types |= {"key_low": "u32", "key_high": "u32"}
    constants = {"dot_dtype": triton.language.bfloat16, "block_batch": block_batch}
    constants |= {"block_rows": rademacher_triton._BLOCK_ROWS, "block_columns": rademacher_triton._BLOCK_COLUMNS}
    kernel = rademacher_triton._kernel
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    compiled = triton.compile(
        triton.compiler.ASTSource(kernel, signature, constants),
        target=triton.backends.compiler.GPUTarget("cuda", capability, 32),
        options={"enable_fp_fusion": True},
    )
    assert "f32.bf16.bf16" in compiled.asm["ptx"]
    assert "arith.addf" in compiled.asm["ttgir"]  # blocks of rows are added outside of the tensor cores
    assert compiled.metadata.shared <= 99 * 1024  # of the smallest GPU from Ampere on


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 33, 200])
def test_a_gpu_gives_accurate_numbers_and_the_same_ones_again(batch):
    generator = torch.Generator().manual_seed(0)
    tile = torch.randn(batch, 20_011, generator=generator).cuda()
    first, second = torch.zeros(2, batch, 1000, device="cuda")
    for total in (first, second):
        rademacher_triton.add_projection(total, tile, key=KEY, start=2**32 - 500)
    assert_accurate(first, tile, 1000, 2**32 - 500)
    assert torch.equal(first, second)
