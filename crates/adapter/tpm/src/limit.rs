//! Every named limit, with its reason.

use std::time::Duration;

/// A command or response: what TPMs of the PC client profile hold in their buffers.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// One sized structure in a response: an encrypted salt or an RSA-2048 modulus, with room.
pub const SIZED_BYTES_MAX: usize = 2048;
/// A certificate in non-volatile memory: real ones have 1 to 2 kB.
pub const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of non-volatile memory in one answer; every TPM reads at least so much at once.
pub const NV_READ_BYTES: usize = 512;
/// A key that a TPM made, both parts: real ones have some 300 bytes.
pub const MAC_KEY_BYTES_MAX: usize = 1024;
/// Conditions of one policy: registers, a counter, an authority, and room.
pub const POLICY_STEPS_MAX: usize = 8;
/// Registers of one bank.
pub const PCRS: u8 = 24;
/// What an authority binds its approval to: a digest, or a short word.
pub const POLICY_REFERENCE_BYTES_MAX: usize = 64;
/// How far an approval may be ahead of the counter that retires earlier ones: one step for itself, and
/// one for each that was approved before it and never installed.
pub const APPROVALS_AHEAD_MAX: u64 = 16;
/// Answers to one question about capabilities; a TPM has some hundred properties, and few handles.
pub const CAPABILITY_ANSWERS_MAX: usize = 64;
/// Elements of one capability answer.
pub const CAPABILITY_ELEMENTS_MAX: u32 = 256;
/// How often a TPM that says "later" is asked again. With [`RETRY_PAUSE_MAX`] that is ten seconds.
pub const RETRIES_MAX: u32 = 160;
/// The longest pause before it is asked again. Pauses double from one millisecond.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_millis(64);
/// How long a TPM behind a socket may take for one answer: an RSA key takes seconds.
pub const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);
/// How long a connection to such a TPM may take.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How often registers are read again because one was extended between reading and quoting.
pub const QUOTE_ATTEMPTS_MAX: u32 = 8;
/// Random bytes that one command asks for: the size of the largest digest of every TPM.
pub const RANDOM_BYTES: usize = 32;
