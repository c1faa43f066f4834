#!/usr/bin/env bash
# Packs what a GPU machine without a network lacks, beyond Python 3.12, torch, numpy, pyarrow, pandas and numba:
# Ray and small packages, by the pins of the lock, as one archive of some 50 MB; and MovieLens-1M.
#
#   tools/pack_gpu.sh                     # writes .gpu/, which git does not see
#
# There: mkdir /tmp/site && tar xJf .gpu/site.tar.xz -C /tmp/site
#        PYTHONPATH=/tmp/site:. python3 -m benchmarks.gpu --json
# Ray's wheel is trimmed (no Java, RLlib, dashboard pages), botocore's to S3 and STS.
set -euo pipefail
python=${PYTHON_VERSION:-3.12}
cd "$(dirname "$0")/.."
out=$PWD/.gpu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/wheels" "$work/site"
lock=requirements.lock
pin() { grep -iE "^$1==" "$lock" | head -1 || true; }
names="ray pydantic pydantic-core annotated-types typing-inspection typing-extensions annotated-doc typer click shellingham
 botocore jmespath urllib3 s3fs fsspec aiobotocore aioitertools
 pyyaml psutil protobuf packaging requests certifi charset-normalizer idna pygments markdown-it-py mdurl
 aiohttp aiosignal frozenlist multidict yarl propcache aiohappyeyeballs python-dateutil six tzdata
 pytest pluggy iniconfig hypothesis sortedcontainers pytest-timeout pytest-xdist execnet
 jsonschema jsonschema-specifications referencing rpds-py attrs msgpack filelock cloudpickle
 safetensors tensorboardx wrapt rich optuna colorlog alembic mako sqlalchemy"
specs=(); for name in $names; do spec=$(pin "$name"); [ -n "$spec" ] && specs+=("$spec") || specs+=("$name"); done
platforms=(); for n in 39 35 34 31 28 27 24 17; do platforms+=(--platform "manylinux_2_${n}_x86_64"); done
"${PIP:-python3}" -m pip download -q --no-deps --only-binary=:all: --python-version "$python" --implementation cp \
  "${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d "$work/wheels" "${specs[@]}" \
  2> >(grep -v "is ignored" >&2)
for wheel in "$work"/wheels/*.whl; do unzip -qo "$wheel" -d "$work/site"; done
cd "$work/site"
rm -rf ray/jars ray/rllib ray/dashboard/client ray/serve/tests ray/thirdparty_files/psutil_tests
find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name sso ! -name sso-oidc -exec rm -rf {} +
chmod +x ray/core/src/ray/raylet/raylet ray/core/src/ray/gcs/gcs_server
find . -name '*.map' -delete
tar c . | xz -T0 -3 > "$out/site.tar.xz"
cd "$out/.."
[ ! -f data/ml-1m.inter ] || xz -T0 -6 -c data/ml-1m.inter > .gpu/ml-1m.inter.xz
ls -l "$out"
