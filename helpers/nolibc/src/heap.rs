//! A heap that only grows. The programs live for milliseconds, or go idle for good, and free next to nothing; what
//! does not exist cannot be freed twice.
use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;

use rspawn_sys::{memory, process};

/// Bytes taken from the kernel at a time, unless more is asked for.
const CHUNK: usize = 64 << 10;

struct Bump {
    next: Cell<usize>,
    end: Cell<usize>,
}

// SAFETY: the programs have one thread; children made by fork have a copy of their own.
unsafe impl Sync for Bump {}

#[global_allocator]
static HEAP: Bump = Bump { next: Cell::new(0), end: Cell::new(0) };

// SAFETY: every block is a fresh part of fresh pages, aligned as asked; none is handed out twice but after
// `dealloc` of the newest block, which then nobody owns.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut start = self.next.get().next_multiple_of(layout.align());
        // A request that does not fit starts new pages, which are aligned to more than any type asks for.
        if start.saturating_add(layout.size()) > self.end.get() {
            let bytes = layout.size().max(CHUNK);
            start = memory::pages(bytes) as usize;
            if start == 0 {
                // Nobody here goes on without, and to say so takes memory: whoever waits for this process says it.
                process::exit(rspawn_proto::OUT_OF_MEMORY)
            }
            self.end.set(start + bytes);
        }
        self.next.set(start + layout.size());
        start as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if block as usize + layout.size() == self.next.get() {
            self.next.set(block as usize);
        }
    }
}
