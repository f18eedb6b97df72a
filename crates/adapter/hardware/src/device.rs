//! The two devices that are spoken to by ioctl.
//!
//! This is the only module with `unsafe` code: each ioctl hands addresses to the kernel.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use heirloom_keeper::port::PlatformError;
use zeroize::Zeroizing;

use crate::derived_key::{DERIVED_KEY_REQUEST_BYTES, DERIVED_KEY_RESPONSE_BYTES, GuestDevice};
use crate::file;
use crate::limit::{NSM_REQUEST_BYTES_MAX, NSM_RESPONSE_BYTES_MAX};
use crate::nsm::NsmDevice;

/// Where Linux has the device of a SEV-SNP guest.
pub const SEV_GUEST: &str = "/dev/sev-guest";
/// Where Linux has the security module of a Nitro enclave.
pub const NSM: &str = "/dev/nsm";

/// `/dev/sev-guest`.
pub struct SevGuest(PathBuf);

impl SevGuest {
    /// The device at a path. It is opened for each question: a guest may attest without it.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

/// `struct snp_guest_request_ioctl` of `linux/sev-guest.h`.
#[repr(C)]
struct SnpGuestRequest {
    message_version: u8,
    request: u64,
    response: u64,
    /// The firmware's word in the lower half, the host's in the upper.
    exit_information: u64,
}

/// `SNP_GET_DERIVED_KEY`.
const SNP_GET_DERIVED_KEY: libc::c_ulong =
    nix::request_code_readwrite!(b'S', 0x1, size_of::<SnpGuestRequest>());

impl GuestDevice for SevGuest {
    fn derived_key(
        &self,
        message_version: u8,
        request: &[u8; DERIVED_KEY_REQUEST_BYTES],
    ) -> Result<Zeroizing<[u8; DERIVED_KEY_RESPONSE_BYTES]>, PlatformError> {
        let device = open(&self.0)?;
        let mut response = Zeroizing::new([0; DERIVED_KEY_RESPONSE_BYTES]);
        let mut message = SnpGuestRequest {
            message_version,
            request: request.as_ptr() as u64,
            response: response.as_mut_ptr() as u64,
            exit_information: 0,
        };
        // SAFETY: the kernel reads 32 bytes at `request` and writes 64 bytes at `response`, which
        // are as long and live until after the call, and writes only into `message` otherwise.
        #[expect(unsafe_code, reason = "the device has no other interface")]
        let done =
            unsafe { libc::ioctl(device.as_raw_fd(), SNP_GET_DERIVED_KEY, &raw mut message) };
        if done == 0 {
            return Ok(response);
        }
        let error = io::Error::last_os_error();
        let word = message.exit_information;
        Err(PlatformError::Unreachable(format!(
            "{}: {error} (host {:#x}, firmware {:#x})",
            self.0.display(),
            word >> 32,
            word & 0xffff_ffff
        )))
    }
}

/// `/dev/nsm`.
pub struct SecurityModule {
    path: PathBuf,
    device: File,
}

impl SecurityModule {
    /// Opens the device.
    pub fn open(path: &Path) -> Result<Self, PlatformError> {
        Ok(Self { path: path.to_owned(), device: open(path)? })
    }
}

/// `struct nsm_raw` of `linux/nsm.h`: where the question is, and where the answer goes.
#[repr(C)]
struct NsmMessage {
    request: libc::iovec,
    response: libc::iovec,
}

const NSM_TRANSACT: libc::c_ulong = nix::request_code_readwrite!(0x0a, 0, size_of::<NsmMessage>());

impl NsmDevice for SecurityModule {
    fn transact(&self, request: &[u8]) -> Result<Vec<u8>, PlatformError> {
        if request.len() > NSM_REQUEST_BYTES_MAX {
            return Err(PlatformError::Unsupported("a request of more than 4 kB"));
        }
        let mut response = vec![0; NSM_RESPONSE_BYTES_MAX];
        let mut message = NsmMessage {
            request: libc::iovec {
                iov_base: request.as_ptr().cast_mut().cast(),
                iov_len: request.len(),
            },
            response: libc::iovec {
                iov_base: response.as_mut_ptr().cast(),
                iov_len: response.len(),
            },
        };
        // SAFETY: the kernel reads `request`, writes at most `iov_len` bytes into `response` and
        // their number into `message`; all three live until after the call.
        #[expect(unsafe_code, reason = "the device has no other interface")]
        let done = unsafe { libc::ioctl(self.device.as_raw_fd(), NSM_TRANSACT, &raw mut message) };
        if done != 0 {
            return Err(file::unreachable(&self.path, &io::Error::last_os_error()));
        }
        if message.response.iov_len > response.len() {
            return Err(file::corrupt(&self.path, "answered more than it had room for"));
        }
        response.truncate(message.response.iov_len);
        Ok(response)
    }
}

fn open(path: &Path) -> Result<File, PlatformError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| file::unreachable(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_numbers_of_the_kernels_headers() {
        assert_eq!(SNP_GET_DERIVED_KEY, 0xc020_5301);
        assert_eq!(NSM_TRANSACT, 0xc020_0a00);
    }

    #[test]
    fn a_device_that_knows_no_such_request_is_unreachable() {
        let null = Path::new("/dev/null");
        let error = SecurityModule::open(null).unwrap().transact(&[0xa0]).unwrap_err();
        assert!(matches!(error, PlatformError::Unreachable(_)), "{error}");
        let error = SevGuest::at(null).derived_key(1, &[0; 32]).err();
        assert!(matches!(error, Some(PlatformError::Unreachable(_))), "{error:?}");
    }
}
