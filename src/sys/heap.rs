//! A heap that forgets: every block is wiped when it is given back. TLS and other libraries keep decrypted requests in
//! buffers of their own, which no caller can reach, let alone wipe.

use std::alloc::{GlobalAlloc, Layout, System};

#[global_allocator]
static HEAP: Forgetful = Forgetful;

/// The system's allocator, behind a wipe.
struct Forgetful;

// SAFETY: all blocks come from `System` and go back to it with the layout that they were made with. What is written into
// a block is within that layout, at a time when its owner has given it up.
unsafe impl GlobalAlloc for Forgetful {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has `layout.size()` bytes, and nobody uses them any more. The call is not optimised away.
        unsafe {
            libc::explicit_bzero(block.cast(), layout.size());
            System.dealloc(block, layout);
        }
    }

    // `realloc` is left to the trait: a new block, a copy, and `dealloc` of the old one. The system's own would leave the
    // old bytes behind.
}
