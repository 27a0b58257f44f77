//! The allocator of the process, and what it does with memory that was freed.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`: after how many milliseconds freed memory is given back to the system, -1 for never.
/// The crate has no name for it, and the numbers of C, <https://microsoft.github.io/mimalloc/group__options.html>.
const PURGE_DELAY: mi_option_t = 15;

/// Keeps memory that was freed for what comes next, unless `MIMALLOC_PURGE_DELAY` says otherwise.
///
/// What holds messages (memtables, tails, buffers of connections) is freed and taken again all the time. Given back in
/// between, each 2 MiB of it cost a page fault that clears them, up to milliseconds in which a network thread stands
/// still. Budgets bound how much there is; the price is that a process stays as large as it once was.
pub(crate) fn keep_what_is_freed() {
    #[expect(unsafe_code, reason = "a call of C; it takes two numbers")]
    // SAFETY: the number is one of the library's, and no other thread has been started that could read the option.
    unsafe {
        mi_option_set_default(PURGE_DELAY, -1);
    }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    /// The library's default for it, and for no option beside it.
    const DEFAULT: i64 = 1_000;

    fn purge_delay() -> i64 {
        #[expect(unsafe_code, reason = "a call of C; it takes a number")]
        // SAFETY: the number is one of the library's; a write at the same time would be another test's, of which there is none.
        unsafe {
            mi_option_get(PURGE_DELAY)
        }
    }

    #[test]
    fn the_number_is_that_of_the_option_and_memory_is_kept() {
        assert_eq!(purge_delay(), DEFAULT, "another option has this number now");
        keep_what_is_freed();
        assert_eq!(purge_delay(), -1);
    }
}
