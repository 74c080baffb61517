"""What a causal language model makes of each token, before its output layer."""

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from lessexp.data.tokenize import Batch


def last_hidden_states(model: PreTrainedModel, batch: Batch) -> Float[Tensor, "batch length width"]:
    """Hidden states of the last layer, after the final norm: what the output layer reads.

    They are the last of the ``hidden_states`` that the whole model gives; logits are not computed.
    A row's states do not depend on the batch; what stands at its padding means nothing.
    """
    output = model.base_model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    return output.last_hidden_state
