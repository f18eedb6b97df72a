//! Memory for the secret of a machine that even root cannot read through the kernel, where the kernel has it.
//!
//! This is the only module with `unsafe` code: `memfd_secret` has no safe wrapper.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::ptr::NonNull;

use heirloom_model::secret::Secret;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;
use zeroize::{Zeroize as _, Zeroizing};

/// Memory that keeps the secret of a machine. What it is decides who else can read it.
pub trait MachineMemory<const N: usize>: Send + Sync {
    /// Lends the secret.
    fn lend(&self, use_bytes: &mut dyn FnMut(&[u8; N]));
}

impl<const N: usize> MachineMemory<N> for Secret<N> {
    fn lend(&self, use_bytes: &mut dyn FnMut(&[u8; N])) {
        self.expose(|bytes| use_bytes(bytes));
    }
}

/// What keeps the secret from other processes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemoryProtection {
    /// `memfd_secret`: unmapped from the kernel; not readable through `/proc` or ptrace.
    SecretMemory,
    /// Ordinary memory, wiped after use; readable for root.
    OrdinaryMemory,
}

/// Moves a secret into the best memory that the kernel offers.
pub fn protect<const N: usize>(
    secret: &Zeroizing<[u8; N]>,
) -> (Box<dyn MachineMemory<N>>, MemoryProtection) {
    match SecretPage::holding(secret) {
        Ok(page) => (Box::new(page), MemoryProtection::SecretMemory),
        // An old kernel, a locked-memory limit, a disabled feature: all said aloud in the host
        // information, none a reason not to start.
        Err(_) => (Box::new(Secret::new(**secret)), MemoryProtection::OrdinaryMemory),
    }
}

/// One page of secret memory that has a secret at its beginning.
struct SecretPage<const N: usize> {
    address: NonNull<[u8; N]>,
}

const PAGE_BYTES: NonZeroUsize = NonZeroUsize::new(4096).expect("a page is not empty");

impl<const N: usize> SecretPage<N> {
    fn holding(secret: &[u8; N]) -> io::Result<Self> {
        const { assert!(N <= PAGE_BYTES.get(), "a secret fits into a page") };
        let file = memfd_secret()?;
        ftruncate(&file, 4096)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a free address, so that no mapping is replaced; nobody else
        // has the file, so that nobody changes the page behind our back.
        #[expect(unsafe_code, reason = "a mapping has no safe form")]
        let address =
            unsafe { mmap(None, PAGE_BYTES, protection, MapFlags::MAP_SHARED, &file, 0)? }.cast();
        // SAFETY: the mapping is fresh, writable, aligned to a page and larger than the array.
        #[expect(unsafe_code, reason = "writes through the mapping")]
        unsafe {
            address.write(*secret);
        }
        Ok(Self { address })
    }
}

impl<const N: usize> MachineMemory<N> for SecretPage<N> {
    fn lend(&self, use_bytes: &mut dyn FnMut(&[u8; N])) {
        // SAFETY: the mapping lives as long as `self`, was initialised in `holding`, and is
        // changed only in `drop`, which needs `self` alone.
        #[expect(unsafe_code, reason = "reads through the mapping")]
        let secret = unsafe { self.address.as_ref() };
        use_bytes(secret);
    }
}

impl<const N: usize> Drop for SecretPage<N> {
    fn drop(&mut self) {
        // SAFETY: as in `lend`; nobody else can have a reference while `self` is dropped.
        #[expect(unsafe_code, reason = "writes through the mapping")]
        unsafe { self.address.as_mut() }.zeroize();
        // SAFETY: exactly the mapping that `holding` made, and it is not used afterwards.
        #[expect(unsafe_code, reason = "a mapping has no safe form")]
        let unmapped = unsafe { munmap(self.address.cast(), PAGE_BYTES.get()) };
        debug_assert!(unmapped.is_ok(), "our own mapping can be removed");
    }
}

// SAFETY: the page belongs to this value alone, and is only read through `&self`.
#[expect(unsafe_code, reason = "the pointer is not shared")]
unsafe impl<const N: usize> Send for SecretPage<N> {}
// SAFETY: as above: concurrent readers only read.
#[expect(unsafe_code, reason = "the pointer is not shared")]
unsafe impl<const N: usize> Sync for SecretPage<N> {}

fn memfd_secret() -> io::Result<OwnedFd> {
    // SAFETY: the call takes flags and returns a new descriptor or -1.
    #[expect(unsafe_code, reason = "the call has no wrapper")]
    let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let descriptor = i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0);
    let descriptor = descriptor.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the descriptor is new, and nobody else knows it.
    #[expect(unsafe_code, reason = "takes over the new descriptor")]
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 48;

    #[expect(clippy::print_stderr, reason = "a test that did not run says so")]
    fn say_skipped() {
        eprintln!("skipped: this kernel has no memfd_secret");
    }

    #[test]
    fn secrets_come_back_from_either_memory() {
        let (memory, protection) = protect(&Zeroizing::new([7; BYTES]));
        let mut seen = [0; BYTES];
        memory.lend(&mut |secret| seen = *secret);
        assert_eq!(seen, [7; BYTES]);
        if protection == MemoryProtection::OrdinaryMemory {
            say_skipped();
        }
    }

    #[test]
    fn secret_memory_cannot_be_read_through_the_kernel() {
        use std::os::unix::fs::FileExt as _;
        let Ok(page) = SecretPage::holding(&[9; BYTES]) else {
            say_skipped();
            return;
        };
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        let ordinary = [9_u8; BYTES];
        let mut seen = [0; BYTES];
        let address = |pointer: *const u8| u64::try_from(pointer.addr()).unwrap();
        memory.read_exact_at(&mut seen, address(ordinary.as_ptr())).unwrap();
        assert_eq!(seen, ordinary);
        let secret = page.address.as_ptr().cast::<u8>().cast_const();
        assert!(memory.read_exact_at(&mut seen, address(secret)).is_err());
    }
}
