//! Claims of evidence that nobody verified. For people only.
//!
//! Nothing here may decide anything; that is what the name of the type is for.

use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::evidence::{
    Certificate as Der, Evidence, ReportData, SnpEvidence, TpmEvidence, VtpmEvidence,
};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{
    ImageMeasurement, LaunchDigest, Measurement, MrSigner, Register48, TeeKind,
};

use crate::dcap;
use crate::error::AppraiseError;
use crate::hcl::{Hardware, HclReport};
use crate::nitro::Document;
use crate::pki::Certificate;
use crate::quote::{Body, Quote};
use crate::snp::Report;

/// What evidence says about itself. Anybody can write evidence that says anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnverifiedClaims {
    /// What made it, it says.
    pub kind: TeeKind,
    /// The code. A virtual machine with a virtual TPM has one only together with a policy.
    pub measurement: Option<Measurement>,
    /// Who signed it: SGX and TPM.
    pub signer: Option<MrSigner>,
    /// The signer's number for the product (ISVPRODID): SGX and TPM.
    pub product_id: Option<u16>,
    /// The security version of the code, where the kind has one.
    pub security_version: Option<SecurityVersion>,
    /// Whether it can be read from outside.
    pub debug: bool,
    /// What the attester put into its evidence, if it has the length of report data.
    pub report_data: Option<ReportData>,
    /// The machine, if the evidence names it.
    pub platform: Option<PlatformId>,
    /// When the certificate of the signing key begins and ends to count, if there is one.
    pub certified: Option<(Time, Time)>,
    /// What only DCAP quotes say.
    pub quoted: Option<QuotedClaims>,
    /// What only this kind says, by name.
    pub facts: Vec<(&'static str, String)>,
    /// Why no policy could accept it, if so.
    pub denied: Option<AppraiseError>,
}

/// What a DCAP quote says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuotedClaims {
    /// Attribute flags and extended features (XFRM or XFAM).
    pub attributes: [u8; 16],
    /// Security version of the machine (SGX), or of the TDX module.
    pub tcb_svn: [u8; 16],
    /// Who signed the quoting enclave.
    pub quoting_signer: MrSigner,
    /// Security version of the quoting enclave.
    pub quoting_security_version: SecurityVersion,
    /// Intel's number of the machine's make, if the certificate has one.
    pub fmspc: Option<[u8; 6]>,
}

/// Reads evidence without verifying anything.
pub fn unverified(evidence: &Evidence) -> Result<UnverifiedClaims, AppraiseError> {
    match evidence {
        Evidence::SgxDcap(raw) => Ok(quoted(&Quote::parse_sgx(raw)?)),
        Evidence::TdxDcap(raw) => Ok(quoted(&Quote::parse_tdx(raw)?)),
        Evidence::Snp(SnpEvidence { report, certificates }) => {
            Ok(reported(Report::parse(report)?, certificates))
        }
        Evidence::Nitro(raw) => Ok(documented(&Document::parse(raw)?)),
        Evidence::Tpm(evidence) => Ok(launched(evidence)),
        Evidence::Vtpm(evidence) => booted(evidence),
    }
}

/// An SGX or TDX quote without the zeros that interfaces of the kernel put behind it.
///
/// Evidence has no padding: every byte of it means something.
pub fn unpadded_quote(bytes: &[u8]) -> Result<&[u8], AppraiseError> {
    Quote::unpadded(bytes)
}

fn nothing(kind: TeeKind) -> UnverifiedClaims {
    UnverifiedClaims {
        kind,
        measurement: None,
        signer: None,
        product_id: None,
        security_version: None,
        debug: false,
        report_data: None,
        platform: None,
        certified: None,
        quoted: None,
        facts: Vec::new(),
        denied: None,
    }
}

fn quoted(quote: &Quote<'_>) -> UnverifiedClaims {
    let chain = Certificate::parse_chain(quote.certification).unwrap_or_default();
    let leaf = chain.first();
    let marks = leaf.and_then(|leaf| dcap::platform_marks(&leaf.der));
    let (attributes, tcb_svn) = match quote.body {
        Body::Sgx(report) => (report.attributes(), report.cpu_svn()),
        Body::Tdx(report) => {
            let both = (u128::from(report.xfam()) << 64) | u128::from(report.attributes());
            (both.to_le_bytes(), report.tee_tcb_svn())
        }
    };
    let common = UnverifiedClaims {
        measurement: Some(quote.measurement()),
        report_data: Some(quote.report_data()),
        platform: marks.as_ref().map(|marks| marks.platform),
        certified: leaf.map(|leaf| (leaf.window.since, leaf.window.until)),
        quoted: Some(QuotedClaims {
            attributes,
            tcb_svn,
            quoting_signer: quote.qe_report.signer(),
            quoting_security_version: quote.qe_report.security_version(),
            fmspc: marks.as_ref().map(|marks| marks.fmspc),
        }),
        denied: quote.deny().err(),
        ..nothing(quote.measurement().kind())
    };
    match quote.body {
        Body::Sgx(report) => UnverifiedClaims {
            signer: Some(report.signer()),
            product_id: Some(report.product_id()),
            security_version: Some(report.security_version()),
            debug: report.is_debug(),
            ..common
        },
        Body::Tdx(report) => UnverifiedClaims {
            debug: report.is_debug(),
            facts: vec![
                ("version", quote.version.to_string()),
                ("mrtd", report.built_from().to_string()),
                ("module", report.module().to_string()),
                (
                    "service_td",
                    report.service_td().map_or("not stated".to_owned(), |td| td.to_string()),
                ),
            ],
            ..common
        },
    }
}

fn reported(report: Report<'_>, certificates: &[Der]) -> UnverifiedClaims {
    let digest = report.launch_digest();
    let chip = report.chip_id();
    let is_masked = chip.iter().all(|byte| *byte == 0);
    UnverifiedClaims {
        measurement: Some(Measurement::Snp(digest)),
        security_version: Some(SecurityVersion(u64::from(report.guest_svn()))),
        debug: report.is_debug(),
        report_data: Some(report.report_data()),
        platform: (!is_masked).then(|| PlatformId::of_chip(&chip)),
        certified: certified(certificates),
        facts: vec![
            ("version", report.version().to_string()),
            ("policy", format!("{:#x}", report.policy())),
            ("vmpl", report.vmpl().to_string()),
            ("reported_tcb", hex::encode(report.reported_tcb())),
            ("id_key", report.id_key().to_string()),
            ("author_key", report.author_key().to_string()),
            ("host_data", report.host_data().to_string()),
        ],
        denied: denied(report, &digest),
        ..nothing(TeeKind::Snp)
    }
}

fn denied(report: Report<'_>, digest: &LaunchDigest) -> Option<AppraiseError> {
    if report.is_debug() {
        return Some(AppraiseError::DebugEnclave);
    }
    let is_zero = digest.as_bytes().iter().all(|byte| *byte == 0);
    is_zero.then_some(AppraiseError::ZeroMeasurement)
}

fn documented(document: &Document<'_>) -> UnverifiedClaims {
    let register = |index: u8| document.registers().get(&index).copied();
    let image = [0, 1, 2].map(|index| register(index).unwrap_or(Register48::new([0; 48])));
    let is_zero = |register: &Register48| register.as_bytes().iter().all(|byte| *byte == 0);
    let debug = image.iter().any(is_zero);
    let names = ["pcr0", "pcr1", "pcr2", "pcr3", "pcr4", "pcr5", "pcr6", "pcr7", "pcr8"];
    let registers = (0..).zip(names).filter_map(|(index, name)| Some((name, register(index)?)));
    let facts =
        [("module", document.module_id().to_owned()), ("made", document.timestamp().to_string())];
    let registers = registers.map(|(name, value)| (name, value.to_string()));
    let found = document.user_data().and_then(|data| data.try_into().ok());
    let leaf = Certificate::parse(document.certificate()).ok();
    UnverifiedClaims {
        measurement: Some(Measurement::Nitro(ImageMeasurement::of(&image))),
        debug,
        report_data: found.map(ReportData::new),
        certified: leaf.map(|leaf| (leaf.window.since, leaf.window.until)),
        facts: facts.into_iter().chain(registers).collect(),
        denied: debug.then_some(AppraiseError::ZeroMeasurement),
        ..nothing(TeeKind::Nitro)
    }
}

fn launched(evidence: &TpmEvidence) -> UnverifiedClaims {
    let launch = &evidence.launch;
    UnverifiedClaims {
        measurement: Some(Measurement::Tpm(launch.measurement)),
        signer: Some(launch.signer),
        product_id: Some(launch.product_id),
        security_version: Some(SecurityVersion(u64::from(launch.isv_svn))),
        debug: launch.debug,
        report_data: Some(evidence.report_data),
        certified: certified(&evidence.certificates),
        facts: vec![
            ("registers", evidence.registers.len().to_string()),
            ("authority", launch.authority.to_string()),
        ],
        denied: launch.debug.then_some(AppraiseError::DebugEnclave),
        ..nothing(TeeKind::Tpm)
    }
}

/// The machine's report, but for what only the virtual TPM says.
fn booted(evidence: &VtpmEvidence) -> Result<UnverifiedClaims, AppraiseError> {
    let left = HclReport::parse(&evidence.hcl_report)?;
    let machine = match left.hardware() {
        Hardware::Snp(report) => reported(Report::parse(report)?, &evidence.certificates),
        Hardware::Tdx(_) => nothing(TeeKind::Vtpm),
    };
    let launch = machine.measurement.map(|launch| ("machine", launch.to_string()));
    Ok(UnverifiedClaims {
        kind: TeeKind::Vtpm,
        measurement: None,
        report_data: Some(evidence.report_data),
        facts: launch.into_iter().chain(machine.facts).collect(),
        ..machine
    })
}

fn certified(certificates: &[Der]) -> Option<(Time, Time)> {
    let leaf = Certificate::parse(&certificates.first()?.0).ok()?;
    Some((leaf.window.since, leaf.window.until))
}
