//! The account of one appraisal: what was checked, by which rule, and what came out.
//!
//! There is no second implementation: the appraisal itself writes down each check when it makes it.
//! Which checks there are for a kind, and in which order, is a table, so that those that were never
//! reached are in the account too.

use std::collections::BTreeMap;

use heirloom_model::measurement::TeeKind;

use crate::error::AppraiseError;
use crate::result::AttestationResult;

/// What an appraisal did, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// What made the evidence.
    pub kind: TeeKind,
    /// All checks of that kind, in order.
    pub checks: Vec<Check>,
    /// What the appraisal answered.
    pub outcome: Result<AttestationResult, AppraiseError>,
}

/// One check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// Its stable name.
    pub name: &'static str,
    /// Where the rule is written.
    pub source: &'static str,
    /// What came out.
    pub outcome: CheckOutcome,
}

/// What came out of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CheckOutcome {
    /// The rule holds, because of what the text says.
    Passed(String),
    /// The policy says that nobody looks, and the text what there is.
    Skipped(String),
    /// The rule is broken, and the evidence refused.
    Failed(String),
    /// Another check failed before.
    NotReached,
}

/// A check, of any kind.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Step {
    Format,
    Attributes,
    Measured,
    Kind,
    Dates,
    Anchor,
    Endorsements,
    Chain,
    Revocation,
    QuotingReport,
    QuotingKey,
    Signature,
    QuotingIdentity,
    TcbLevel,
    KeyIdentity,
    Binding,
    Quote,
    ReportData,
    Platform,
    Tcb,
    Advisories,
    Evaluation,
    Module,
    TdAttributes,
    Features,
    ServiceDomain,
    KeyKind,
    Privilege,
    IdentityKey,
    AuthorKey,
    HostData,
    Threads,
    PlatformInfo,
    Role,
    Parent,
    Signer,
    Authority,
    Registers,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Attributes => "attributes",
            Self::Measured => "measured",
            Self::Kind => "kind-accepted",
            Self::Dates => "certificate-dates",
            Self::Anchor => "trust-anchor",
            Self::Endorsements => "endorsements",
            Self::Chain => "certificate-chain",
            Self::Revocation => "revocation",
            Self::QuotingReport => "quoting-enclave-report",
            Self::QuotingKey => "quoting-enclave-key",
            Self::Signature => "signature",
            Self::QuotingIdentity => "quoting-enclave-identity",
            Self::TcbLevel => "tcb-level",
            Self::KeyIdentity => "key-identity",
            Self::Binding => "binding",
            Self::Quote => "quote",
            Self::ReportData => "report-data",
            Self::Platform => "platform",
            Self::Tcb => "tcb-accepted",
            Self::Advisories => "advisories",
            Self::Evaluation => "tcb-evaluation",
            Self::Module => "tdx-module",
            Self::TdAttributes => "td-attributes",
            Self::Features => "xfam",
            Self::ServiceDomain => "service-td",
            Self::KeyKind => "key-kind",
            Self::Privilege => "vmpl",
            Self::IdentityKey => "id-key",
            Self::AuthorKey => "author-key",
            Self::HostData => "host-data",
            Self::Threads => "smt",
            Self::PlatformInfo => "platform-info",
            Self::Role => "pcr3-role",
            Self::Parent => "pcr4-parent",
            Self::Signer => "pcr8-signer",
            Self::Authority => "host-authority",
            Self::Registers => "pcrs",
        }
    }
}

/// Checks in their order, and where each rule is written.
type Rows = &'static [(Step, &'static str)];
/// The checks of a kind, in parts that several kinds have.
type Table = &'static [Rows];

const POLICY: &str = "appraisal policy of the domain";
const RFC_DATES: &str = "RFC 5280 §4.1.2.5";
const RFC_PATH: &str = "RFC 5280 §6.1";
const RFC_LIST: &str = "RFC 5280 §5, §6.3";
const RFC_FRESH: &str = "RFC 9334 §10";
const AMD_REPORT: &str = "AMD 56860, ATTESTATION REPORT";
const AMD_KEYS: &str = "AMD 57230, VCEK and VLEK certificates";
const TPM_ATTEST: &str = "TPM 2.0 part 2, 10.12";
const SGX_QUOTE: &str = "Intel ECDSA Quote Library API, A.4";
const TDX_QUOTE: &str = "Intel TDX DCAP Quoting Library API, A.3";

/// The path of the platform's key, of SGX and TDX.
const INTEL_PATH: Rows = &[
    (Step::Dates, RFC_DATES),
    (Step::Anchor, "trust anchors of the network's root"),
    (Step::Endorsements, "Intel PCS API v4, issueDate and nextUpdate"),
    (Step::Chain, RFC_PATH),
    (Step::Revocation, RFC_LIST),
];

/// What the policy says about platforms, of SGX and TDX.
const INTEL_POLICY: Rows = &[
    (Step::Platform, POLICY),
    (Step::Tcb, POLICY),
    (Step::Advisories, POLICY),
    (Step::Evaluation, POLICY),
];

/// A report of SEV-SNP, alone and of the machine around a virtual TPM.
const SNP_REPORT: Rows = &[
    (Step::Chain, AMD_KEYS),
    (Step::Revocation, RFC_LIST),
    (Step::Attributes, "AMD 56860, GUEST_POLICY"),
    (Step::Measured, "AMD 56860, MEASUREMENT"),
    (Step::KeyIdentity, AMD_KEYS),
    (Step::Signature, "AMD 56860, SIGNATURE"),
];

/// What the policy says about such a report.
const SNP_POLICY: Rows = &[
    (Step::Kind, POLICY),
    (Step::Endorsements, RFC_LIST),
    (Step::Platform, POLICY),
    (Step::Tcb, POLICY),
    (Step::KeyKind, POLICY),
    (Step::Privilege, POLICY),
    (Step::IdentityKey, POLICY),
    (Step::AuthorKey, POLICY),
    (Step::HostData, POLICY),
    (Step::Threads, POLICY),
    (Step::PlatformInfo, "AMD 56860, PLATFORM_INFO"),
];

const SGX: Table = &[
    &[
        (Step::Format, SGX_QUOTE),
        (Step::Attributes, "Intel SDM volume 3D, 34.7.1"),
        (Step::Measured, "Intel SDM volume 3D, 38.4.1"),
    ],
    INTEL_PATH,
    &[
        (Step::QuotingReport, SGX_QUOTE),
        (Step::QuotingKey, SGX_QUOTE),
        (Step::Signature, SGX_QUOTE),
        (Step::QuotingIdentity, "Intel PCS API v4, enclaveIdentity"),
        (Step::TcbLevel, "Intel PCS API v4, tcbInfo"),
        (Step::ReportData, RFC_FRESH),
    ],
    INTEL_POLICY,
];

const TDX: Table = &[
    &[
        (Step::Format, TDX_QUOTE),
        (Step::Attributes, "Intel TDX Module ABI, table 3.23"),
        (Step::Measured, "Intel TDX Module ABI, TDREPORT_STRUCT"),
    ],
    INTEL_PATH,
    &[
        (Step::QuotingReport, TDX_QUOTE),
        (Step::QuotingKey, TDX_QUOTE),
        (Step::Signature, TDX_QUOTE),
        (Step::QuotingIdentity, "Intel PCS API v4, TD_QE enclaveIdentity"),
        (Step::TcbLevel, "Intel PCS API v4, tcbInfo and tdxModuleIdentities"),
        (Step::ReportData, RFC_FRESH),
        (Step::Kind, POLICY),
    ],
    INTEL_POLICY,
    &[
        (Step::Module, POLICY),
        (Step::TdAttributes, POLICY),
        (Step::Features, POLICY),
        (Step::ServiceDomain, POLICY),
    ],
];

const SNP: Table =
    &[&[(Step::Format, AMD_REPORT)], SNP_REPORT, &[(Step::ReportData, RFC_FRESH)], SNP_POLICY];

const NITRO: Table = &[&[
    (Step::Format, "RFC 9052 §4.2, AWS Nitro attestation process"),
    (Step::Chain, RFC_PATH),
    (Step::Signature, "RFC 9052 §4.4"),
    (Step::Measured, "AWS Nitro attestation process, PCR 0 to 2"),
    (Step::ReportData, RFC_FRESH),
    (Step::Kind, POLICY),
    (Step::Platform, POLICY),
    (Step::Role, POLICY),
    (Step::Parent, POLICY),
    (Step::Signer, POLICY),
]];

const TPM: Table = &[&[
    (Step::Attributes, "launch claims of the measured launcher"),
    (Step::Measured, "launch claims of the measured launcher"),
    (Step::Chain, RFC_PATH),
    (Step::Revocation, RFC_LIST),
    (Step::Quote, TPM_ATTEST),
    (Step::ReportData, RFC_FRESH),
    (Step::Kind, POLICY),
    (Step::Endorsements, RFC_LIST),
    (Step::Platform, POLICY),
    (Step::Authority, POLICY),
    (Step::Registers, POLICY),
]];

const VTPM: Table = &[
    &[(Step::Format, "Azure confidential VM guest attestation, HCL report")],
    SNP_REPORT,
    &[
        (Step::Binding, "Azure confidential VM guest attestation, runtime data"),
        (Step::Quote, TPM_ATTEST),
        (Step::ReportData, RFC_FRESH),
    ],
    SNP_POLICY,
    &[(Step::Registers, POLICY)],
];

fn rows(kind: TeeKind) -> impl Iterator<Item = (Step, &'static str)> {
    let table = match kind {
        TeeKind::Sgx => SGX,
        TeeKind::Tdx => TDX,
        TeeKind::Snp => SNP,
        TeeKind::Nitro => NITRO,
        TeeKind::Tpm => TPM,
        TeeKind::Vtpm => VTPM,
    };
    table.iter().flat_map(|rows| rows.iter().copied())
}

impl Account {
    pub(crate) fn of(
        kind: TeeKind,
        trail: Trail,
        outcome: Result<AttestationResult, AppraiseError>,
    ) -> Self {
        let mut made = trail.0.unwrap_or_default();
        let checks = rows(kind).map(|(step, source)| Check {
            name: step.name(),
            source,
            outcome: made.remove(&step).unwrap_or(CheckOutcome::NotReached),
        });
        let checks = checks.collect();
        assert!(made.is_empty(), "every check that an appraisal makes is in its table: {made:?}");
        Self { kind, checks, outcome }
    }
}

/// Where an appraisal writes down what it checks, if anybody wants to read it.
#[derive(Clone, Debug)]
pub(crate) struct Trail(Option<BTreeMap<Step, CheckOutcome>>);

impl Trail {
    /// Nobody wants to read it: nothing is put into words.
    pub(crate) fn silent() -> Self {
        Self(None)
    }

    pub(crate) fn recording() -> Self {
        Self(Some(BTreeMap::new()))
    }

    /// A check passed.
    pub(crate) fn pass(&mut self, step: Step, detail: impl FnOnce() -> String) {
        self.write(step, || CheckOutcome::Passed(detail()));
    }

    /// The policy says that nobody looks.
    pub(crate) fn skip(&mut self, step: Step, detail: impl FnOnce() -> String) {
        self.write(step, || CheckOutcome::Skipped(detail()));
    }

    /// A check failed.
    pub(crate) fn fail(&mut self, step: Step, error: &AppraiseError) {
        self.write(step, || CheckOutcome::Failed(error.to_string()));
    }

    /// A check was made, with this outcome.
    pub(crate) fn check<T, E: Into<AppraiseError>>(
        &mut self,
        step: Step,
        outcome: Result<T, E>,
        detail: impl FnOnce(&T) -> String,
    ) -> Result<T, AppraiseError> {
        let outcome = outcome.map_err(Into::into);
        match &outcome {
            Ok(found) => self.pass(step, || detail(found)),
            Err(error) => self.fail(step, error),
        }
        outcome
    }

    /// Several checks were made at once, in this order. If they failed, the error says which one
    /// did, or it is the first.
    pub(crate) fn block<T, E: Into<AppraiseError>>(
        &mut self,
        steps: &[Step],
        outcome: Result<T, E>,
        detail: impl Fn(Step, &T) -> String,
    ) -> Result<T, AppraiseError> {
        let outcome = outcome.map_err(Into::into);
        match &outcome {
            Ok(found) => {
                for step in steps {
                    self.pass(*step, || detail(*step, found));
                }
            }
            Err(error) => {
                let failed = error.step().filter(|step| steps.contains(step));
                let failed = failed.or(steps.first().copied());
                for step in steps.iter().take_while(|step| Some(**step) != failed) {
                    self.pass(*step, || "nothing was found against it".to_owned());
                }
                if let Some(failed) = failed {
                    self.fail(failed, error);
                }
            }
        }
        outcome
    }

    fn write(&mut self, step: Step, outcome: impl FnOnce() -> CheckOutcome) {
        if let Some(made) = &mut self.0 {
            made.insert(step, outcome());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_table_has_a_check_twice_and_no_two_checks_share_a_name() {
        let mut named = BTreeSet::new();
        for kind in TeeKind::ALL {
            let steps: BTreeSet<_> = rows(kind).map(|(step, _)| step).collect();
            assert_eq!(steps.len(), rows(kind).count(), "{kind}");
            named.extend(steps);
        }
        let names: BTreeSet<_> = named.iter().map(|step| step.name()).collect();
        assert_eq!(names.len(), named.len());
    }

    #[test]
    fn a_block_blames_the_check_that_the_error_names() {
        let mut trail = Trail::recording();
        let steps = [Step::Chain, Step::Revocation, Step::Signature];
        let refused: Result<(), _> = Err(AppraiseError::CertificateRevoked);
        trail.block(&steps, refused, |_, ()| String::new()).unwrap_err();
        let made = trail.0.unwrap();
        assert!(matches!(made[&Step::Chain], CheckOutcome::Passed(_)));
        assert!(matches!(made[&Step::Revocation], CheckOutcome::Failed(_)));
        assert!(!made.contains_key(&Step::Signature));
    }
}
