//! Links the binary without the C library's start files: rspawn-nolibc brings its own entry point.
fn main() {
    for flag in [
        "-nostartfiles", "-nostdlib", "-static-pie", "-Wl,--build-id=none", "-Wl,-z,relro,-z,now",
        "-Wl,--no-eh-frame-hdr",
    ] {
        println!("cargo::rustc-link-arg-bins={flag}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
