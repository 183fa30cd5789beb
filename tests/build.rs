//! Links the floor program as rspawn-setup and rspawn-init are linked: without the C library's start files.
fn main() {
    for flag in
        ["-nostartfiles", "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,-z,norelro", "-Wl,--no-eh-frame-hdr"]
    {
        println!("cargo::rustc-link-arg-bin=floor={flag}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
