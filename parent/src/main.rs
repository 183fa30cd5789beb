//! `rspawn`: see the library of the same name.
#![forbid(unsafe_code)]

fn main() {
    std::process::exit(rspawn::commands::main())
}
