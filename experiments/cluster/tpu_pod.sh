#!/usr/bin/env bash
# Not run so far. Starts the sweep on every host of a TPU pod slice: experiments/cluster/tpu_pod.sh NAME ZONE OPTIONS...
# Each host needs the package with `pip install 'xmflow-jax[tpu]'` and the disk that holds --out, such as a Filestore mount.
set -euo pipefail
name=$1 zone=$2
shift 2

gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all \
    --command "python3 -m xmflow_jax.sweep --distributed $(printf '%q ' "$@")"
