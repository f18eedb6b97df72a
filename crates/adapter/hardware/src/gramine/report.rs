//! What a keeper reads out of the report about itself (Intel SDM volume 3D, 37.16).

use heirloom_model::evidence::{LocalReport, ReportData};
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::sealed::CpuSvn;

/// A report that was made in this enclave about this enclave.
pub(super) struct EnclaveReport([u8; LocalReport::BYTES]);

/// DEBUG in ATTRIBUTES.FLAGS.
const FLAG_DEBUG: u64 = 1 << 1;

impl EnclaveReport {
    pub(super) fn new(report: &LocalReport) -> Self {
        Self(*report.as_bytes())
    }

    pub(super) fn cpu_svn(&self) -> CpuSvn {
        CpuSvn::new(self.field::<0, 16>())
    }

    pub(super) fn is_debug(&self) -> bool {
        u64::from_le_bytes(self.field::<48, 8>()) & FLAG_DEBUG != 0
    }

    pub(super) fn measurement(&self) -> MrEnclave {
        MrEnclave::new(self.field::<64, 32>())
    }

    pub(super) fn signer(&self) -> MrSigner {
        MrSigner::new(self.field::<128, 32>())
    }

    pub(super) fn product_id(&self) -> u16 {
        u16::from_le_bytes(self.field::<256, 2>())
    }

    pub(super) fn isv_svn(&self) -> u16 {
        u16::from_le_bytes(self.field::<258, 2>())
    }

    pub(super) fn report_data(&self) -> ReportData {
        ReportData::new(self.field::<320, 64>())
    }

    fn field<const AT: usize, const N: usize>(&self) -> [u8; N] {
        const { assert!(AT + N <= LocalReport::BYTES, "a field lies inside the report") };
        let mut field = [0; N];
        field.iter_mut().zip(self.0.iter().skip(AT)).for_each(|(to, from)| *to = *from);
        field
    }
}
