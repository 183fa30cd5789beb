#!/bin/sh
# Builds the Debian package, from anywhere: target/debian/rspawn_VERSION_ARCH.deb. Needs cargo-deb
# (cargo install cargo-deb).
set -eu
cd "$(dirname "$0")/../.."

triple=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release -p rspawn -p rspawn-setup -p rspawn-hooks -p rspawn-scope -p rspawn-init
rspawn="target/$triple/release/rspawn"

rm -rf target/dist
mkdir -p target/dist
"$rspawn" generate man target/dist/man
"$rspawn" generate completions bash >target/dist/rspawn.bash
"$rspawn" generate completions zsh >target/dist/_rspawn
"$rspawn" generate completions fish >target/dist/rspawn.fish

cargo deb --package rspawn --target "$triple" --no-build --no-strip --output target/debian/
