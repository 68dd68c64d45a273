"""What figures depend on beside the models: the machine."""
from __future__ import annotations
import platform
from pathlib import Path
from typing import Any

import torch


def machine(device: str, threads: int) -> dict[str, Any]:
    """Describe what runs on.

    Args:
        device (str): A CPU or a CUDA device.
        threads (int): Threads of torch on the CPU.

    Returns:
        dict: 'device', by its name if it is a GPU, 'processor' and 'threads'.
    """
    if torch.device(device).type == 'cuda':
        device = torch.cuda.get_device_name(device)
    return dict(device=device, processor=processor(), threads=threads)


def processor() -> str:
    """Name the processor of this machine.

    Returns:
        str: Its model where the system says it, or its architecture.
    """
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()
