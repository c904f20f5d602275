"""What a GPU's block masks show is what the dense masks show."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import flex_attention

from tokenmill.model.nn import attention
from tokenmill.model.nn.attention import attend, attention_kernel, kernel_in_use, mask_for
from tokenmill.model.nn.model_config import ModelConfig


@pytest.mark.parametrize("window", [None, 1, 7, 100])
@pytest.mark.parametrize("apart", [False, True])
def test_block_masks_are_the_dense_ones(window: int | None, apart: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 4, 50, 16, generator=generator)
    keys, values = torch.randn(2, 2, 2, 50, 16, generator=generator)
    documents = torch.randint(0, 2, (2, 50), generator=generator).cumsum(1) // 9 if apart else None
    cpu = torch.device("cpu")
    dense = attend(queries, keys, values, mask_for(window, documents, 0, 50, cpu))
    blocks = attention._block_mask(window, documents, 50, cpu)
    found = flex_attention.flex_attention(queries, keys, values, block_mask=blocks, enable_gqa=True)
    torch.testing.assert_close(found, dense, rtol=1e-5, atol=1e-5)


def test_no_mask_is_made_where_none_is_needed() -> None:
    cpu = torch.device("cpu")
    assert mask_for(None, None, 0, 50, cpu) is None
    assert mask_for(50, None, 0, 50, cpu) is None
    assert mask_for(None, None, 30, 1, cpu) is None
    assert mask_for(49, None, 0, 50, cpu) is not None
    assert mask_for(None, None, 30, 2, cpu) is not None


def test_the_kernel_can_be_chosen() -> None:
    for name, expected in (("auto", "flash"), ("math", "math"), ("flash", "flash")):
        with attention_kernel(name):
            assert kernel_in_use(ModelConfig(), torch.device("cpu"), torch.float32) == expected
