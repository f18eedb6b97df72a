//! The report of a TDX trust domain (Intel's "TDX DCAP Quoting Library API", A.3.2; attributes from
//! "TDX Module ABI", table 3.23).

use heirloom_model::evidence::ReportData;
use heirloom_model::measurement::{Measurement, Register48, TdMeasurement};

use crate::error::AppraiseError;

/// A report of TDX 1.0.
pub(crate) const BYTES_1_0: usize = 584;
/// A report of TDX 1.5: the same, with the current TCB and the service trust domains.
pub(crate) const BYTES_1_5: usize = 648;

/// Attribute bits of a trust domain.
mod attribute {
    pub(super) const DEBUG: u64 = 1 << 0;
    /// The host may count instructions and events of the trust domain.
    pub(super) const PROFILED: u64 = 0b111 << 4;
    /// Service trust domains may be bound after the launch; their reports are of another kind.
    pub(super) const SERVICE_EXTENSION: u64 = 1 << 17;
    /// The host cannot make the trust domain handle its own page faults.
    pub(super) const SEPT_VE_DISABLE: u64 = 1 << 28;
    pub(super) const MIGRATABLE: u64 = 1 << 29;
    /// Bits 16 to 22, 27 to 31, 62 and 63 have a meaning that protects or does not matter, and a
    /// policy may look at them. All others are unknown.
    pub(super) const KNOWN: u64 = DEBUG | PROFILED | (0x7f << 16) | (0x1f << 27) | (0b11 << 62);
}

/// The report of a trust domain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TdReport<'a> {
    base: &'a [u8; BYTES_1_0],
    extension: Option<&'a [u8; BYTES_1_5 - BYTES_1_0]>,
}

impl<'a> TdReport<'a> {
    /// The report that these bytes are, if they have the length of one.
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        let (base, rest) = bytes.split_first_chunk()?;
        let extension = if rest.is_empty() { None } else { Some(rest.try_into().ok()?) };
        Some(Self { base, extension })
    }

    /// Security versions of the TDX module and the loader, at launch.
    pub(crate) fn tee_tcb_svn(self) -> [u8; 16] {
        self.field::<0, 16>()
    }

    /// The same as of now, which a module update without restart changes.
    pub(crate) fn current_tee_tcb_svn(self) -> Option<[u8; 16]> {
        Some(*self.extension?.first_chunk()?)
    }

    /// The TDX module.
    pub(crate) fn module(self) -> Register48 {
        Register48::new(self.field::<16, 48>())
    }

    /// Who signed the TDX module; zero is Intel.
    pub(crate) fn module_signer(self) -> Register48 {
        Register48::new(self.field::<64, 48>())
    }

    pub(crate) fn module_attributes(self) -> [u8; 8] {
        self.field::<112, 8>()
    }

    pub(crate) fn attributes(self) -> u64 {
        u64::from_le_bytes(self.field::<120, 8>())
    }

    /// Extended features.
    pub(crate) fn xfam(self) -> u64 {
        u64::from_le_bytes(self.field::<128, 8>())
    }

    /// What the trust domain was built from (MRTD).
    pub(crate) fn built_from(self) -> Register48 {
        Register48::new(self.field::<136, 48>())
    }

    /// Service trust domains that are bound to this one. Reports of TDX 1.0 say nothing
    /// about them, which does not mean that there is none.
    pub(crate) fn service_td(self) -> Option<Register48> {
        let found = self.extension.and_then(|extension| extension.last_chunk());
        found.copied().map(Register48::new)
    }

    /// Digest over MRTD, RTMR 0 to 3, MRCONFIGID, MROWNER and MROWNERCONFIG.
    pub(crate) fn measurement(self) -> Measurement {
        let registers = [
            self.field::<136, 48>(),
            self.field::<328, 48>(),
            self.field::<376, 48>(),
            self.field::<424, 48>(),
            self.field::<472, 48>(),
            self.field::<184, 48>(),
            self.field::<232, 48>(),
            self.field::<280, 48>(),
        ];
        Measurement::Tdx(TdMeasurement::of(&registers.map(Register48::new)))
    }

    pub(crate) fn report_data(self) -> ReportData {
        ReportData::new(self.field::<520, 64>())
    }

    /// Whether the trust domain can be read from outside.
    pub(crate) fn is_debug(self) -> bool {
        self.attributes() & attribute::DEBUG != 0
    }

    /// What no policy can allow.
    ///
    /// * Debug shows the memory to the host, profiling what happens in it.
    /// * A migratable trust domain may be moved by a migration agent that nothing here names.
    /// * Without `SEPT_VE_DISABLE` the host can take pages away and let the guest run on.
    /// * An attribute that this release does not know is refused, not ignored.
    pub(crate) fn deny(self) -> Result<(), AppraiseError> {
        let flags = self.attributes();
        let has = |bits: u64| flags & bits != 0;
        if self.is_debug() {
            return Err(AppraiseError::DebugEnclave);
        }
        if has(attribute::PROFILED) {
            return Err(AppraiseError::ProfiledDomain);
        }
        let unknown = flags & (!attribute::KNOWN | attribute::SERVICE_EXTENSION);
        if unknown != 0 {
            return Err(AppraiseError::UnknownAttributes { bits: unknown });
        }
        if has(attribute::MIGRATABLE) {
            return Err(AppraiseError::MigratableDomain);
        }
        if !has(attribute::SEPT_VE_DISABLE) {
            return Err(AppraiseError::PagesNotProtected);
        }
        if self.built_from().as_bytes().iter().all(|byte| *byte == 0) {
            return Err(AppraiseError::ZeroMeasurement);
        }
        Ok(())
    }

    fn field<const AT: usize, const N: usize>(self) -> [u8; N] {
        const { assert!(AT + N <= BYTES_1_0, "a field lies inside the report") };
        let mut field = [0; N];
        field.iter_mut().zip(self.base.iter().skip(AT)).for_each(|(to, from)| *to = *from);
        field
    }
}
