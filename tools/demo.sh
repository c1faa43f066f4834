#!/usr/bin/env bash
# `make demo`: from nothing to recommendations, two CPU workers, a few minutes.
# PROVISIONAL: to be finalised together with submit.py and configs/quickstart.yaml.
set -euo pipefail
cd "$(dirname "$0")/.."
config=pipelines/configs/quickstart.yaml

if python submit.py fetch ml-100k; then
  input=data/ml-100k.inter
else
  echo "MovieLens-100K could not be fetched; going on with a generated log" >&2
  python submit.py fetch generated
  input=data/generated.inter
fi

python submit.py pipeline --config "$config" --set "data.input=$input"
for user in 1 2 3; do
  python submit.py recommend --config "$config" --set "data.input=$input" --user "$user"
done
