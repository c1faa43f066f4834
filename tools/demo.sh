#!/usr/bin/env bash
# `make demo`: from nothing to recommendations on two CPU workers, in a few minutes.
# Arguments are passed on to the pipeline: make demo ARGS="--set train.epochs=3".
set -euo pipefail
cd "$(dirname "$0")/.."

if python submit.py fetch ml-100k; then
  run=(--config pipelines/configs/quickstart.yaml "$@")
  titles=(--items data/ml-100k.item)
  users=(196 186 22)
else
  echo "MovieLens-100K could not be fetched; going on with a generated log" >&2
  python submit.py fetch generated
  run=(--config pipelines/configs/quickstart.yaml --set data.input=data/generated.inter "$@")
  titles=()
  users=(1 2 3)
fi

python submit.py pipeline "${run[@]}"
for user in "${users[@]}"; do
  python submit.py recommend "${run[@]}" "${titles[@]}" --user "$user" -k 10
done
