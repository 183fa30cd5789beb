//! A heap that only grows. The programs live for milliseconds, or go idle for good, and free next to nothing; what
//! does not exist cannot be freed twice.
use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;

use rspawn_sys::memory;

/// Taken from the kernel at a time; larger requests get pages of their own.
const CHUNK: usize = 64 << 10;

struct Bump {
    next: Cell<usize>,
    end: Cell<usize>,
}

// SAFETY: the programs have one thread; children made by fork have a copy of their own.
unsafe impl Sync for Bump {}

#[global_allocator]
static HEAP: Bump = Bump { next: Cell::new(0), end: Cell::new(0) };

// SAFETY: every block is a fresh part of fresh pages, aligned as asked; none is handed out twice but by `realloc` and
// `dealloc` of the newest block, which then nobody else owns.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.next.get().next_multiple_of(layout.align());
        match start.checked_add(layout.size()) {
            Some(end) if self.next.get() != 0 && end <= self.end.get() => {
                self.next.set(end);
                start as *mut u8
            }
            Some(_) if layout.size() >= CHUNK / 2 && layout.align() <= 4096 => {
                memory::pages(layout.size().next_multiple_of(4096))
            }
            Some(_) => {
                let chunk = memory::pages(CHUNK) as usize;
                if chunk == 0 {
                    return core::ptr::null_mut();
                }
                self.next.set(chunk + layout.size());
                self.end.set(chunk + CHUNK);
                // Pages are aligned to more than any type asks for.
                chunk as *mut u8
            }
            None => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if block as usize + layout.size() == self.next.get() {
            self.next.set(block as usize);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let start = block as usize;
        if start + layout.size() == self.next.get() && start + new_size <= self.end.get() {
            self.next.set(start + new_size);
            return block;
        }
        // SAFETY: `new_size` is the caller's, with the alignment that it had.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both blocks are at least as long as what is copied, and the new one is fresh.
            unsafe { core::ptr::copy_nonoverlapping(block, new, layout.size().min(new_size)) };
        }
        new
    }
}
