"""Shard a public T5 encoder over a mesh, and use it inside JAX code of your own.

    python examples/sharded_t5.py t5-v1_1-xxl    # a folder of transformers; a CPU stands for 8 devices

No weight is on a device twice: tensors go from the file straight onto their shards. The head beside it is yours.
"""

import os
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from dalle3_jax import convert
from dalle3_jax.training import sharding


def main(folder):
    """The head's losses, the share of the encoder on one device, and the largest difference from one device alone."""
    mesh = sharding.make_mesh({"fsdp": jax.device_count()})
    encoder, params = convert.load(folder, shardings=lambda boxed: sharding.param_shardings(boxed, mesh))
    rows = NamedSharding(mesh, PartitionSpec(sharding.FSDP_AXES))
    rng = np.random.default_rng(0)
    ids = rng.integers(2, 32, (16, 6))
    batch = {"ids": jax.device_put(ids, rows), "mask": jax.device_put(ids > 4, rows)}
    labels = jax.device_put(ids[:, 0] % 2, rows)  # whatever your head is to learn

    def encode(params, batch):
        features = encoder.apply({"params": params}, batch["ids"], batch["mask"])
        weights = batch["mask"][..., None] / batch["mask"].sum(1)[:, None, None].clip(1)
        return jnp.sum(features * weights, axis=1)

    @jax.jit
    def step(head, params, batch, labels):
        def loss_fn(head):
            logits = (encode(params, batch) @ head["kernel"] + head["bias"]).astype(jnp.float32)
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))

        loss, gradients = jax.value_and_grad(loss_fn)(head)
        return jax.tree.map(lambda value, gradient: value - 0.5 * gradient, head, gradients), loss

    head, losses = {"kernel": jnp.zeros((encoder.width, 2)), "bias": jnp.zeros(2)}, []
    with jax.set_mesh(mesh):
        for _ in range(4):
            head, loss = step(head, params, batch, labels)
            losses.append(float(loss))
        together = jax.jit(sharding.with_axis_rules(encode))(params, batch)
    leaves = jax.tree.leaves(params)
    share = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves) / sum(leaf.nbytes for leaf in leaves)
    alone = jax.jit(encode)(jax.device_get(params), jax.device_get(batch))
    return losses, share, float(np.abs(np.asarray(together) - np.asarray(alone)).max())


if __name__ == "__main__":
    losses, share, difference = main(sys.argv[1])
    print(f"{jax.device_count()} devices, {share:.1%} of the encoder on each, {difference:.1e} from one device alone")
    print("losses of the head:", *(f"{loss:.3f}" for loss in losses))
