//! What a dynamic loader does for other programs: this one lies where the kernel put it, and its own pointers are made
//! to say so before anything uses them.
use core::ptr;

use rspawn_sys::{memory, process};

const PT_DYNAMIC: u32 = 2;
const PT_GNU_RELRO: u32 = 0x6474_e552;
const DT_RELA: usize = 7;
const DT_RELASZ: usize = 8;
/// R_X86_64_RELATIVE, R_AARCH64_RELATIVE: the one kind that a program without libraries has.
const RELATIVE: usize = if cfg!(target_arch = "x86_64") { 8 } else { 1027 };

/// What of a program header (elf(5)) is used here.
#[repr(C)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: usize,
    address: usize,
    physical: usize,
    size_in_file: usize,
    size: usize,
    align: usize,
}

/// Makes every pointer of the program's data lead to where the program is, then that data read-only.
///
/// # Safety
/// To be called once, first of all, with the address of the program's ELF header. Nothing here may need a relocation
/// itself: no table of functions, no text.
pub unsafe fn relocate(image: *mut u8) {
    // SAFETY: the linker puts the program headers behind the ELF header, which says how many there are.
    let (segments, count) = unsafe { (image.add(64).cast::<Segment>(), *image.add(56).cast::<u16>()) };
    let segment = |kind| {
        // SAFETY: within the number of them.
        (0..count as usize).map(|at| unsafe { &*segments.add(at) }).find(|segment| segment.kind == kind)
    };
    let Some(dynamic) = segment(PT_DYNAMIC) else { process::exit(70) };
    let value = |tag: usize| {
        let words = dynamic.size / 16;
        // SAFETY: the segment is an array of pairs: tag and value.
        let pairs = (0..words).map(|at| unsafe { &*image.add(dynamic.address).cast::<[usize; 2]>().add(at) });
        pairs.into_iter().find(|pair| pair[0] == tag).map_or(0, |pair| pair[1])
    };
    let (table, size) = (value(DT_RELA), value(DT_RELASZ));
    for at in 0..size / 24 {
        // SAFETY: the table is within the program, and says where in its data a pointer is.
        let [place, kind, addend] = unsafe { *image.add(table).cast::<[usize; 3]>().add(at) };
        if kind != RELATIVE {
            process::exit(70);
        }
        // SAFETY: as above; that data is writable until the end of this function.
        unsafe { ptr::write_unaligned(image.add(place).cast(), image.addr() + addend) };
    }
    if let Some(data) = segment(PT_GNU_RELRO) {
        // What shares the first page with it is as constant, what shares the last one is not (the kernel's pages of 4096
        // bytes, or of 65536 on some machines, to which the linker aligns the end).
        let (begin, end) = (data.address & !0xfff, (data.address + data.size) & !0xfff);
        if memory::make_read_only(image.addr() + begin, end - begin).is_err() {
            process::exit(70);
        }
    }
}
