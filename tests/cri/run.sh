#!/bin/sh
# Pods through containerd's CRI plugin: builds the client and runs the tests, with rspawn's programs of
# `cargo build --release`. Arguments go to the test programs: `tests/cri/run.sh fifty_pods --nocapture`.
set -eu
cd "$(dirname "$0")/../.."

missing=
for program in protoc containerd ctr containerd-shim-runc-v2; do
  command -v "$program" >/dev/null || missing="$missing $program"
done
if [ -n "$missing" ]; then
  echo "SKIPPED: cri: not installed:$missing (Debian: protobuf-compiler, containerd)"
  exit 0
fi
exec cargo test -p rspawn-cri-tests --no-fail-fast -- "$@"
