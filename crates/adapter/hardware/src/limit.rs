//! Every named limit on what devices answer, with its reason.

use heirloom_model::limit::EVIDENCE_BYTES_MAX;

/// A word or number in a file of the kernel or of Gramine, with its line end.
pub const WORD_BYTES_MAX: usize = 64;
/// A quote or report: what a keeper could not send on is not read either. TDX quotes are padded to
/// 8 kB.
pub const OUTBLOB_BYTES_MAX: usize = EVIDENCE_BYTES_MAX;
/// A table of certificates: the kernel hands out 16 kB at most (`SEV_FW_BLOB_MAX_SIZE`).
pub const AUXBLOB_BYTES_MAX: usize = 16 * 1024;
/// Entries of a table of certificates: three keys, a list of revoked ones, and room to grow.
pub const CERTIFICATES_MAX: usize = 16;
/// A request to a Nitro security module (`NSM_REQUEST_MAX_SIZE`).
pub const NSM_REQUEST_BYTES_MAX: usize = 4 * 1024;
/// Its answer (`NSM_RESPONSE_MAX_SIZE`).
pub const NSM_RESPONSE_BYTES_MAX: usize = 12 * 1024;
/// The identifier of a Nitro security module: real ones have 39 characters.
pub const NSM_MODULE_CHARACTERS_MAX: usize = 128;
/// Fields of one answer of a Nitro security module: the largest has seven.
pub const NSM_FIELDS_MAX: u64 = 32;
/// Questions for one filling of random bytes: each answer has up to 256 bytes, and keepers ask for
/// some dozens at a time.
pub const NSM_RANDOM_QUESTIONS_MAX: usize = 4_096;
