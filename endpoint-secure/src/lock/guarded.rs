//! 32 secret bytes in memory of their own: between guard pages, never swapped, in no core dump,
//! read-only, and overwritten when they are dropped.
//!
//! It does not hide them from this process. Source: docs/architecture.md, "Rest".

use std::fmt;
use std::ptr::NonNull;

use zeroize::Zeroize;

/// A root key.
pub struct Guarded(NonNull<[u8; 32]>);

// SAFETY: it owns its memory alone, and shared references only read it.
#[allow(unsafe_code)]
unsafe impl Send for Guarded {}

impl Guarded {
    /// Moves a key there, and overwrites where it was. `None` when the system has no memory.
    #[allow(unsafe_code)]
    pub fn take(bytes: &mut [u8; 32]) -> Option<Self> {
        // SAFETY: the new memory is large enough, aligned, ours alone, and freed in `drop` alone.
        let memory = unsafe {
            let memory = memsec::malloc::<[u8; 32]>()?;
            memory.as_ptr().write(*bytes);
            // Where it cannot be made read-only it is still a secret.
            memsec::mprotect(memory, memsec::Prot::ReadOnly);
            memory
        };
        bytes.zeroize();
        Some(Self(memory))
    }

    /// The key.
    #[allow(unsafe_code)]
    pub fn expose(&self) -> &[u8; 32] {
        // SAFETY: it was filled in `take`, and lives as long as we do.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Guarded {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: nobody has it any more; it is written only after that was allowed again.
        unsafe {
            if memsec::mprotect(self.0, memsec::Prot::ReadWrite) {
                memsec::memzero(self.0.as_ptr().cast(), 32);
            }
            memsec::free(self.0);
        }
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guarded(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_and_nowhere_else() {
        let mut bytes = [0xAB; 32];
        let guarded = Guarded::take(&mut bytes).unwrap();
        assert_eq!((bytes, guarded.expose()), ([0; 32], &[0xAB; 32]));
        assert_eq!(format!("{guarded:?}"), "Guarded(..)");
    }
}
