#!/usr/bin/env bash
# `make demo`: from nothing to recommendations, two CPU workers, a few minutes.
# PROVISIONAL: to be finalised together with submit.py and configs/quickstart.yaml.
set -euo pipefail
cd "$(dirname "$0")/.."

if python submit.py fetch ml-100k; then
  run=(--config pipelines/configs/quickstart.yaml --set data.input=data/ml-100k.inter)
  titles=(--items data/ml-100k.item)
else
  echo "MovieLens-100K could not be fetched; going on with a generated log" >&2
  python submit.py fetch generated
  run=(--config pipelines/configs/quickstart.yaml --set data.input=data/generated.inter)
  titles=()
fi

python submit.py pipeline "${run[@]}"
for user in 1 2 3; do
  python submit.py recommend "${run[@]}" "${titles[@]}" --user "$user" -k 5
done
