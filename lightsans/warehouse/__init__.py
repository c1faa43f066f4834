"""Tables of a warehouse as logs: Delta Lake and Apache Iceberg, one version of each."""
