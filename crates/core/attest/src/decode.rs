//! Claims of evidence that nobody verified. For people only.
//!
//! Nothing here may decide anything; that is what the name of the type is for.

use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{Measurement, MrSigner};

use crate::dcap;
use crate::error::AppraiseError;
use crate::pki::Certificate;
use crate::quote::Quote;

/// What a quote says about itself. Anybody can write a quote that says anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnverifiedClaims {
    /// The code.
    pub measurement: Measurement,
    /// Who signed it.
    pub signer: MrSigner,
    /// The signer's number for the product (ISVPRODID).
    pub product_id: u16,
    /// The signer's security version of the code (ISVSVN).
    pub security_version: SecurityVersion,
    /// Whether the enclave can be read from outside.
    pub debug: bool,
    /// Attribute flags and extended features.
    pub attributes: [u8; 16],
    /// Security version of the machine.
    pub cpu_svn: [u8; 16],
    /// What the enclave put into its evidence.
    pub report_data: ReportData,
    /// Who signed the quoting enclave.
    pub quoting_signer: MrSigner,
    /// Security version of the quoting enclave.
    pub quoting_security_version: SecurityVersion,
    /// Intel's number of the machine's make, if the certificate has one.
    pub fmspc: Option<[u8; 6]>,
    /// The machine, if the certificate names it.
    pub platform: Option<PlatformId>,
    /// When the machine's certificate begins and ends to count, if there is one.
    pub certified: Option<(Time, Time)>,
    /// Why no policy could accept this enclave, if so.
    pub denied: Option<AppraiseError>,
}

/// Reads evidence without verifying anything.
pub fn unverified(evidence: &Evidence) -> Result<UnverifiedClaims, AppraiseError> {
    let Evidence::SgxDcap(raw) = evidence;
    let quote = Quote::parse(raw)?;
    let report = &quote.report;
    let chain = Certificate::parse_chain(quote.certification).unwrap_or_default();
    let leaf = chain.first();
    let marks = leaf.and_then(|leaf| dcap::platform_marks(&leaf.der));
    Ok(UnverifiedClaims {
        measurement: report.measurement(),
        signer: report.signer(),
        product_id: report.product_id(),
        security_version: report.security_version(),
        debug: report.is_debug(),
        attributes: report.attributes(),
        cpu_svn: report.cpu_svn(),
        report_data: report.report_data(),
        quoting_signer: quote.qe_report.signer(),
        quoting_security_version: quote.qe_report.security_version(),
        fmspc: marks.as_ref().map(|marks| marks.fmspc),
        platform: marks.as_ref().map(|marks| marks.platform),
        certified: leaf.map(|leaf| (leaf.window.since, leaf.window.until)),
        denied: report.deny().err(),
    })
}
