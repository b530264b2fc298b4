"""The street of the test on pods, and the same on one machine."""

STREET = """
name: small
seed: 3
simulate: {source: builtin, sessions: SESSIONS}
logs:
  root: "{run}/logs"
  grades: {path: "grades/*"}
  categorical: [device]
transform: {categorical: [category, brand, device]}
schema_dir: SCHEMA
slices: [device]
importance: {folds: 2, epochs: 2}
model: {epochs: 2}
evaluation: {tolerance: 1.0, bootstrap: {resamples: 100}}
thresholds: {minimum_ctr_auc: 0.5, calibration: [0.3, 3.0]}
serving_check: {rows: 40, latency_requests: 10}
"""

CLUSTER = """
kubeflow:
  image: registry.example/heft:1
  pipeline_root: s3://heft/artifacts
  shared: SHARED
  env: {TF_CPP_MIN_LOG_LEVEL: "2"}
"""
