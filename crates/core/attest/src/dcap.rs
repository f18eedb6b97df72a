//! The one place that talks to the DCAP library.
//!
//! The library verifies paths, revocation, signatures, the quoting enclave and TCB matching at a
//! given time under a given root. Its version is pinned exactly and its types end here. Its
//! errors are text, so nothing is decided by them: [`crate::diagnose`] finds the reason.

use std::time::Duration;

use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3, QuotePolicy, TcbStatus};
use heirloom_model::counter::Time;
use heirloom_model::evidence::DcapCollateral;
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{Measurement, MrEnclave, Register48, TdMeasurement};
use heirloom_model::policy::TcbLevel;

use crate::pki;
use crate::quote::{Body, Quote, Report};
use crate::td_report::TdReport;

/// SGX platform types that the library knows: standard, scalable, scalable with integrity.
const SGX_TYPES: &[u8] = &[0, 1, 2];

/// What a verified quote says about its platform.
#[derive(Clone, Debug)]
pub(crate) struct PlatformClaims {
    pub(crate) platform: PlatformId,
    pub(crate) fmspc: [u8; 6],
    pub(crate) tcb: TcbLevel,
    /// The day on which the manufacturer fixed what the platform has: of what lacks something, the
    /// earliest.
    pub(crate) tcb_date: Time,
    pub(crate) advisories: Vec<String>,
    pub(crate) tcb_evaluation: u32,
}

/// Why the library did not verify a quote, for people.
#[derive(Clone, Debug)]
pub(crate) struct NotVerified(pub(crate) String);

/// Verifies everything about a quote, at one time, under one root.
///
/// `raw` are the bytes that `quote` was parsed from.
pub(crate) fn verify(
    raw: &[u8],
    quote: &Quote<'_>,
    root: &[u8],
    collateral: &DcapCollateral,
    moment: Time,
) -> Result<PlatformClaims, NotVerified> {
    let claims = QuoteVerifier::new(root.to_vec())
        .allow_service_td(true)
        .verify_with_policy(raw, convert(collateral), moment.0, &facts(moment))
        .map_err(|error| NotVerified(format!("{error:#}")))?;
    same_quote(&claims, quote)?;
    let ppid = <[u8; 16]>::try_from(claims.platform.pck.ppid.as_slice())
        .map_err(|_| NotVerified("the PPID does not have 16 bytes".to_owned()))?;
    let tcb_date = tcb_date(&claims)?;
    let mut advisories = claims.tcb.advisory_ids;
    advisories.sort();
    advisories.dedup();
    Ok(PlatformClaims {
        platform: PlatformId::of_ppid(&ppid),
        fmspc: claims.platform.pck.fmspc,
        tcb: level(claims.tcb.status)?,
        tcb_date,
        advisories,
        tcb_evaluation: claims.tcb.eval_data_number,
    })
}

/// What the library is asked to refuse by itself. The network's appraisal policy is judged on
/// what it returns, so that verified facts can be judged again under another policy.
///
/// Decided here, because an appraisal policy has no word for it:
///
/// * *Every TCB level but revoked* passes; the policy lists the levels that it accepts, for
///   good or for a while.
/// * *Dynamic platforms, cached platform keys and SMT* pass: multi-package machines whose packages
///   may be exchanged, whose keys Intel keeps, and that run with hyper-threading are what data
///   centres have. Where SMT is a weakness the TCB level says `ConfigurationNeeded`. Who wants to
///   exclude machines lists the ones to include.
/// * *SGX types* that the library does not know are refused.
/// * *Service trust domains* pass: the policy names the ones that it accepts.
fn facts(moment: Time) -> QuotePolicy {
    let any_age = Duration::from_secs(u64::MAX);
    [
        TcbStatus::SWHardeningNeeded,
        TcbStatus::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSWHardeningNeeded,
        TcbStatus::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded,
        TcbStatus::TDRelaunchAdvised,
        TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
    ]
    .into_iter()
    .fold(QuotePolicy::strict(moment.0), QuotePolicy::allow_status)
    .platform_grace_period(any_age)
    .qe_grace_period(any_age)
    .allow_dynamic_platform(true)
    .allow_cached_keys(true)
    .allow_smt(true)
    .accepted_sgx_types(SGX_TYPES)
}

/// The date of the levels that platform and quoting enclave reach.
fn tcb_date(claims: &QuoteClaims) -> Result<Time, NotVerified> {
    let (platform, enclave) = (&claims.platform, &claims.qe.tcb_level);
    let levels = [Some(&platform.tcb_level), platform.current_tcb_level.as_ref()];
    let levels = levels.into_iter().flatten();
    let levels = levels.map(|level| (level.tcb_status, &level.tcb_date));
    let lacking = |(status, date): (TcbStatus, &String)| {
        (status != TcbStatus::UpToDate).then(|| pki::parse_date(date))
    };
    let dates = levels.chain([(enclave.tcb_status, &enclave.tcb_date)]).filter_map(lacking);
    let malformed = || NotVerified("a TCB date is malformed".to_owned());
    let dates = dates.collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
    // Of what lacks nothing no date is ever asked for.
    Ok(dates.into_iter().min().unwrap_or(Time(0)))
}

/// Two parsers read the quote; what one verified must be what the other shows.
fn same_quote(claims: &QuoteClaims, quote: &Quote<'_>) -> Result<(), NotVerified> {
    let same = match quote.body {
        Body::Sgx(ours) => claims.report.as_sgx().is_some_and(|theirs| same_enclave(theirs, ours)),
        Body::Tdx(ours) => same_domain(&claims.report, ours),
    };
    if same && claims.header.version == quote.version {
        return Ok(());
    }
    Err(NotVerified("two parsers read different quotes".to_owned()))
}

fn same_enclave(theirs: &dcap_qvl::quote::EnclaveReport, ours: Report<'_>) -> bool {
    ours.measurement() == Measurement::Sgx(MrEnclave::new(theirs.mr_enclave))
        && *ours.signer().as_bytes() == theirs.mr_signer
        && ours.product_id() == theirs.isv_prod_id
        && ours.security_version().0 == u64::from(theirs.isv_svn)
        && ours.attributes() == theirs.attributes
        && ours.cpu_svn() == theirs.cpu_svn
        && *ours.report_data().as_bytes() == theirs.report_data
}

fn same_domain(report: &dcap_qvl::quote::Report, ours: TdReport<'_>) -> bool {
    let Some(theirs) = report.as_td10() else { return false };
    let newer = report.as_td15();
    let registers = [
        theirs.mr_td,
        theirs.rt_mr0,
        theirs.rt_mr1,
        theirs.rt_mr2,
        theirs.rt_mr3,
        theirs.mr_config_id,
        theirs.mr_owner,
        theirs.mr_owner_config,
    ];
    let measured = TdMeasurement::of(&registers.map(Register48::new));
    report.as_td15_ex().is_none()
        && ours.measurement() == Measurement::Tdx(measured)
        && ours.tee_tcb_svn() == theirs.tee_tcb_svn
        && ours.current_tee_tcb_svn() == newer.map(|newer| newer.tee_tcb_svn2)
        && *ours.module().as_bytes() == theirs.mr_seam
        && *ours.module_signer().as_bytes() == theirs.mr_signer_seam
        && ours.module_attributes() == theirs.seam_attributes
        && ours.attributes().to_le_bytes() == theirs.td_attributes
        && ours.xfam().to_le_bytes() == theirs.xfam
        && ours.service_td().map(|found| *found.as_bytes())
            == newer.map(|newer| newer.mr_service_td)
        && *ours.report_data().as_bytes() == theirs.report_data
}

fn convert(collateral: &DcapCollateral) -> QuoteCollateralV3 {
    let from = collateral.clone();
    QuoteCollateralV3 {
        pck_crl_issuer_chain: from.pck_crl_issuer_chain,
        root_ca_crl: from.root_ca_crl,
        pck_crl: from.pck_crl,
        tcb_info_issuer_chain: from.tcb_info_issuer_chain,
        tcb_info: from.tcb_info,
        tcb_info_signature: from.tcb_info_signature,
        qe_identity_issuer_chain: from.qe_identity_issuer_chain,
        qe_identity: from.qe_identity,
        qe_identity_signature: from.qe_identity_signature,
        // If it were present it would replace the chain in the quote.
        pck_certificate_chain: None,
    }
}

fn level(status: TcbStatus) -> Result<TcbLevel, NotVerified> {
    Ok(match status {
        TcbStatus::UpToDate => TcbLevel::UpToDate,
        TcbStatus::SWHardeningNeeded => TcbLevel::SwHardeningNeeded,
        TcbStatus::ConfigurationNeeded => TcbLevel::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSWHardeningNeeded => TcbLevel::ConfigurationAndSwHardeningNeeded,
        TcbStatus::OutOfDate => TcbLevel::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded => TcbLevel::OutOfDateConfigurationNeeded,
        TcbStatus::TDRelaunchAdvised => TcbLevel::RelaunchAdvised,
        TcbStatus::TDRelaunchAdvisedConfigurationNeeded => {
            TcbLevel::RelaunchAdvisedConfigurationNeeded
        }
        TcbStatus::Revoked => {
            return Err(NotVerified("the TCB is revoked".to_owned()));
        }
    })
}

/// What a PCK certificate says about its platform.
pub(crate) struct PlatformMarks {
    pub(crate) fmspc: [u8; 6],
    pub(crate) platform: PlatformId,
}

/// What a PCK certificate says about its platform. Not verified.
pub(crate) fn platform_marks(certificate: &[u8]) -> Option<PlatformMarks> {
    let extension = dcap_qvl::intel::parse_pck_extension(certificate).ok()?;
    let ppid = <[u8; 16]>::try_from(extension.ppid.as_slice()).ok()?;
    Some(PlatformMarks { fmspc: extension.fmspc, platform: PlatformId::of_ppid(&ppid) })
}

/// How a platform stands against the manufacturer's lists, when the library refused it.
pub(crate) enum Standing {
    /// Not the manufacturer's quoting enclave.
    ForeignQuotingEnclave,
    /// Older than every level.
    NoLevel,
    /// At a level that was taken back.
    Revoked,
    /// Not the manufacturer's TDX module.
    ForeignModule,
    /// Nothing is wrong with it.
    Good,
}

/// Compares a platform with the manufacturer's lists, only to name a reason for a refusal.
pub(crate) fn standing(
    quote: &Quote<'_>,
    certificate: &[u8],
    collateral: &DcapCollateral,
) -> Option<Standing> {
    let enclave = &quote.qe_report;
    let identity: dcap_qvl::QeIdentity = serde_json::from_str(&collateral.qe_identity).ok()?;
    if !genuine(quote, &identity) {
        return Some(Standing::ForeignQuotingEnclave);
    }
    let version = enclave.security_version().0;
    let reached = |level: &&dcap_qvl::QeTcbLevel| version >= u64::from(level.tcb.isvsvn);
    let Some(enclave_level) = identity.tcb_levels.iter().find(reached) else {
        return Some(Standing::NoLevel);
    };
    let extension = dcap_qvl::intel::parse_pck_extension(certificate).ok()?;
    let tcb_info: dcap_qvl::TcbInfo = serde_json::from_str(&collateral.tcb_info).ok()?;
    let module = match quote.body {
        Body::Sgx(_) => None,
        Body::Tdx(report) => Some(report),
    };
    if module.is_some_and(|report| !module_is_listed(report, &tcb_info)) {
        return Some(Standing::ForeignModule);
    }
    // A report of TDX 1.5 says two security versions, and each must reach a level.
    let versions: Vec<_> = match module {
        None => vec![None],
        Some(report) => {
            let current = report.current_tee_tcb_svn().map(Some);
            [Some(report.tee_tcb_svn())].into_iter().chain(current).collect()
        }
    };
    let mut statuses = vec![enclave_level.tcb_status];
    for version in &versions {
        let met = |level: &&dcap_qvl::TcbLevel| {
            let short = level.shortfalls(&extension.cpu_svn, extension.pce_svn, version.as_ref());
            short.is_ok_and(|short| short.is_empty())
        };
        let Some(level) = tcb_info.tcb_levels.iter().find(met) else {
            return Some(Standing::NoLevel);
        };
        statuses.push(level.tcb_status);
    }
    Some(if statuses.contains(&TcbStatus::Revoked) { Standing::Revoked } else { Standing::Good })
}

/// Whether the manufacturer lists the signer of a TDX module. A module of a version of its own has
/// an identity of its own.
fn module_is_listed(report: TdReport<'_>, tcb_info: &dcap_qvl::TcbInfo) -> bool {
    let signer = hex::encode(report.module_signer().as_bytes());
    let listed = match tcb_info.tdx_module_identity(&report.tee_tcb_svn()) {
        Ok(Some(identity)) => Some(&identity.mrsigner),
        Ok(None) => tcb_info.tdx_module.as_ref().map(|module| &module.mrsigner),
        Err(_) => None,
    };
    listed.is_some_and(|listed| listed.eq_ignore_ascii_case(&signer))
}

fn genuine(quote: &Quote<'_>, identity: &dcap_qvl::QeIdentity) -> bool {
    let enclave = &quote.qe_report;
    let masked = |found: &[u8], expected: &[u8], mask: &[u8]| {
        found.iter().zip(expected).zip(mask).all(|((f, e), m)| f & m == e & m)
    };
    !enclave.is_debug()
        && *enclave.signer().as_bytes() == identity.mrsigner
        && enclave.product_id() == identity.isvprodid
        && masked(&enclave.misc_select(), &identity.miscselect, &identity.miscselect_mask)
        && masked(&enclave.attributes(), &identity.attributes, &identity.attributes_mask)
}
