"""PyTorch's side of `scripts/gpu_report.py`: the same UNet and loop, through diffusers and torch.compile."""

import statistics
import time

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from benchmarks.gpu import GUIDANCE, Figures, Workload

__all__ = ["sample"]


def sample(size: Workload) -> Figures:
    """Steps of DDIM with guidance in bfloat16, channels last; compiled on a GPU, eager on a CPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = build_unet(size).to(device, torch.bfloat16, memory_format=torch.channels_last).eval()
    network = torch.compile(module, mode="reduce-overhead", fullgraph=True) if device == "cuda" else module
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    kind = {"device": device, "dtype": torch.bfloat16}
    start = torch.randn(size.sample_batch, 4, size.latent, size.latent, **kind)
    text = torch.randn(2 * size.sample_batch, *size.context, **kind)

    @torch.inference_mode()
    def run() -> None:
        scheduler.set_timesteps(size.sample_steps)
        x = start.contiguous(memory_format=torch.channels_last)
        for t in scheduler.timesteps.to(device):
            conditional, null = network(torch.cat([x, x]), t, text, return_dict=False)[0].chunk(2)
            x = scheduler.step(null + GUIDANCE * (conditional - null), t, x, return_dict=False)[0]
        x.sum().item()  # waits for the device

    times = []
    for _ in range(2 + size.calls):  # CUDA graphs are recorded in the second call
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times[2:])
    return {"seconds": seconds, "images": size.sample_batch / seconds}


def build_unet(size: Workload) -> UNet2DConditionModel:
    """Diffusers' UNet with the layers of ours."""
    levels = size.unet.levels
    down = tuple("CrossAttnDownBlock2D" if level.depth else "DownBlock2D" for level in levels)
    up = tuple("CrossAttnUpBlock2D" if level.depth else "UpBlock2D" for level in reversed(levels))
    return UNet2DConditionModel(
        sample_size=size.latent,
        block_out_channels=tuple(level.channels for level in levels),
        layers_per_block=levels[0].blocks,
        down_block_types=down,
        up_block_types=up,
        mid_block_type="UNetMidBlock2DCrossAttn" if size.unet.middle_depth else "UNetMidBlock2D",
        cross_attention_dim=size.context[1],
        attention_head_dim=levels[0].heads,
        norm_num_groups=size.unet.groups,
    )
