#!/usr/bin/env bash
# Service account and bucket permissions on Google Cloud, once: `cluster/iam/gcp.sh PROJECT BUCKET`,
# or `cluster/iam/gcp.sh PROJECT BUCKET gke` for KubeRay, once the GKE cluster is there.
# The account may read and write below gs://BUCKET/lightsans/ and pull images, and nothing else.
set -euo pipefail
project=${1:?usage: $0 PROJECT BUCKET [gke]}
bucket=${2:?usage: $0 PROJECT BUCKET [gke]}
account=lightsans-worker@$project.iam.gserviceaccount.com

gcloud iam service-accounts create lightsans-worker --project "$project"

# A managed folder has permissions of its own, listing included: the equivalent of a prefix in S3.
# It needs a bucket with uniform bucket-level access.
gcloud storage managed-folders create "gs://$bucket/lightsans/"
gcloud storage managed-folders add-iam-policy-binding "gs://$bucket/lightsans/" \
  --member "serviceAccount:$account" --role roles/storage.objectUser

gcloud artifacts repositories add-iam-policy-binding lightsans --project "$project" \
  --location us-west1 --member "serviceAccount:$account" --role roles/artifactregistry.reader

# The Kubernetes accounts of kuberay/access.yaml act as this one. The project's identity pool, which
# is named here, comes with its first GKE cluster.
if [ "${3:-}" = gke ]; then
  for name in lightsans-head lightsans-worker; do
    gcloud iam service-accounts add-iam-policy-binding "$account" --project "$project" \
      --role roles/iam.workloadIdentityUser \
      --member "serviceAccount:$project.svc.id.goog[lightsans/$name]"
  done
fi
