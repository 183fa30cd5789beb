//! `rspawn-hooks`: see the library of the same name.
#![no_std]
#![no_main]

rspawn_nolibc::entry!(rspawn_hooks::main);
