#!/usr/bin/env bash
# Fetches what run_on_gpu.sh installs on a machine without a network: wheels.sh FOLDER [REQUIREMENT...]
#
# For Python 3.12 on Linux, x86-64: all that the package and its tests need, 20 MB, but for PyTorch itself and what is
# large and mostly beside it: torchvision, NumPy, SciPy, scikit-image, Matplotlib, Pillow, CMake. Name those that the
# machine lacks; torchvision has to be that of the machine's PyTorch.
set -euo pipefail

folder=${1:?"usage: wheels.sh FOLDER [REQUIREMENT...]"}
shift
network=(segmentation-models-pytorch timm "safetensors>=0.4.3" huggingface-hub hf-xet httpx2 httpcore2 truststore h11 anyio idna
  tqdm typer click shellingham)
training=("lightning>=2.6.4,<2.7" pytorch-lightning lightning-utilities torchmetrics "jsonargparse>=4.40,<5"
  docstring-parser typeshed-client importlib-resources typing-extensions pyyaml fsspec filelock aiohttp aiosignal
  aiohappyeyeballs attrs frozenlist multidict propcache yarl)
others=(defusedxml lazy-loader rich markdown-it-py mdurl pygments packaging imageio tifffile)
building=("nanobind>=3.1,<4" scikit-build-core pathspec)
testing=("pytest>=8" iniconfig pluggy)
platforms=()
for platform in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux_2_5 manylinux1; do
  platforms+=(--platform "${platform}_x86_64")
done

python3 -m pip download --quiet --dest "$folder" --no-deps --only-binary :all: --python-version 3.12 \
  --implementation cp "${platforms[@]}" "${network[@]}" "${training[@]}" "${others[@]}" "${building[@]}" "${testing[@]}" "$@"
du --human-readable --summarize "$folder"
