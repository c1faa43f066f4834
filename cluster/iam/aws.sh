#!/usr/bin/env bash
# Roles on AWS, once, by somebody who may create them: `cluster/iam/aws.sh ec2` for `ray up`, or
# `cluster/iam/aws.sh eks` for KubeRay. Replace the placeholders in these files first (README).
set -euo pipefail
cd "$(dirname "$0")"

# role NAME TRUST POLICY...: a role that TRUST may take, with these policies.
role() {
  local name=$1 trust=$2
  shift 2
  aws iam create-role --role-name "$name" --assume-role-policy-document "file://$trust" >/dev/null
  for policy in "$@"; do
    aws iam put-role-policy --role-name "$name" --policy-name "${policy%.json}" \
      --policy-document "file://$policy"
  done
}

# profile NAME: what an EC2 machine carries a role in; it may also pull images.
profile() {
  aws iam attach-role-policy --role-name "$1" \
    --policy-arn arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly
  aws iam create-instance-profile --instance-profile-name "$1" >/dev/null
  aws iam add-role-to-instance-profile --instance-profile-name "$1" --role-name "$1"
}

case "${1:-}" in
  ec2)
    role lightsans-worker aws-ec2-trust.json aws-storage.json
    role lightsans-head aws-ec2-trust.json aws-storage.json aws-ray-head.json
    profile lightsans-worker
    profile lightsans-head
    # Spot machines need this role of AWS's own, which an account may have already.
    aws iam create-service-linked-role --aws-service-name spot.amazonaws.com || true
    ;;
  eks)
    role lightsans-storage aws-irsa-trust.json aws-storage.json
    ;;
  *)
    echo "usage: $0 ec2|eks" >&2
    exit 2
    ;;
esac
