//! The list of targets.

use crate::{amd, appraisal, canton, intel, nitro, tpm, vtpm, wire};

/// Something that reads bytes from outside.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads bytes, and says whether they went all the way through.
    pub run: fn(&[u8]) -> bool,
    /// Genuine bytes to start from.
    pub starts: fn() -> Vec<Vec<u8>>,
}

/// Evidence, its endorsements, answers of devices, and the model's formats.
pub const EVIDENCE: &[Target] = &[
    Target { name: "sgx-quote", run: intel::sgx_quote, starts: intel::sgx_quotes },
    Target { name: "tdx-quote", run: intel::tdx_quote, starts: intel::tdx_quotes },
    Target { name: "collateral", run: intel::collateral, starts: intel::documents },
    Target { name: "snp-report", run: amd::report, starts: amd::reports },
    Target { name: "snp-certificates", run: amd::certificate, starts: amd::certificates },
    Target { name: "ghcb-table", run: amd::table, starts: amd::tables },
    Target { name: "nitro-document", run: nitro::document, starts: nitro::documents },
    Target { name: "nsm-answer", run: nitro::answers, starts: nitro::conversations },
    Target { name: "tpm-attest", run: tpm::attest, starts: tpm::attests },
    Target { name: "tpm-signature", run: tpm::signature, starts: tpm::signatures },
    Target { name: "tpm-public", run: tpm::public, starts: tpm::publics },
    Target { name: "tpm-response", run: tpm::responses, starts: tpm::conversations },
    Target { name: "hcl-report", run: vtpm::hcl_report, starts: vtpm::hcl_reports },
    Target { name: "appraisal", run: appraisal::appraise, starts: appraisal::evidence },
    Target { name: "wire", run: wire::any, starts: wire::values },
];

/// Files and messages of Canton.
pub const CANTON: &[Target] = &[
    Target { name: "dar", run: canton::dar, starts: canton::dars },
    Target { name: "dalf", run: canton::dalf, starts: Vec::new },
    Target { name: "acs", run: canton::acs, starts: canton::snapshots },
    Target { name: "blob", run: canton::blob, starts: canton::blobs },
    Target { name: "topology", run: canton::topology, starts: canton::transactions },
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    EVIDENCE.iter().chain(CANTON).find(|target| target.name == name)
}
