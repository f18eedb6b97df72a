//! `heirloom evidence appraise`: every check of one appraisal, and what came out.

use std::path::{Path, PathBuf};

use heirloom_attest::account::{Account, Check, CheckOutcome};
use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::error::AppraiseError;
use heirloom_attest::result::{AttestationResult, Host};
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Certificate, Endorsements, ReportData, RevokedKeys, TrustAnchor};
use heirloom_model::limit::{ENDORSEMENTS_BYTES_MAX, EVIDENCE_BYTES_MAX};
use serde_json::{Map, Value, json};

use crate::code::Code;
use crate::command::evidence_input::Parts;
use crate::command::{appraisal_input, endorsements};
use crate::diagnostic::Diagnostic;
use crate::output::{Report, columns, fields};
use crate::{anchor, file, time, view_appraisal};

/// What to appraise, and by what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Evidence: encoded, or as the platform hands it out
    evidence: PathBuf,
    #[command(flatten)]
    parts: Parts,
    /// Certificate of an attestation root, DER or PEM, or an encoded anchor; `sgx:` (for SGX and
    /// TDX), `snp:`, `nitro:` or `tpm:` in front of it says for what, `sgx:` if nothing does;
    /// repeat it for several
    #[arg(long = "anchor", value_name = "KIND:FILE", required = true)]
    anchors: Vec<PathBuf>,
    /// Endorsements: encoded, collateral of a DCAP quote as JSON, or a list of revoked keys of
    /// SEV-SNP or TPMs in DER; repeat it for several
    #[arg(long = "endorsements", value_name = "FILE")]
    endorsements: Vec<PathBuf>,
    /// Appraisal rules: the `[appraisal]` table of a policy, as a TOML file of its own
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// Report data that the evidence must carry, as 128 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    report_data: ReportData,
    /// At what time to appraise; by default the clock of this machine
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    time: Option<Time>,
}

/// Appraises.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let bytes = file::read(&args.evidence, EVIDENCE_BYTES_MAX)?;
    let rules = appraisal_input::read(&args.rules)?;
    let anchors = anchor::read_all(Path::new(""), &args.anchors)?;
    let mut appraiser = Appraiser::new(anchors.clone());
    for path in &args.endorsements {
        endorse(&mut appraiser, &anchors, path)?;
    }
    let evidence = args.parts.assemble(bytes, &args.report_data)?;
    let now = args.time.unwrap_or_else(time::now);
    Ok(report(&appraiser.explain(&evidence, &args.report_data, &rules, now)))
}

fn endorse(
    appraiser: &mut Appraiser,
    anchors: &[TrustAnchor],
    path: &Path,
) -> Result<(), Diagnostic> {
    let bytes = file::read(path, ENDORSEMENTS_BYTES_MAX)?;
    // A list of revoked keys does not contain its root, so it is that of the anchor that signed it.
    let is_der = bytes.starts_with(&[0x30, 0x82]);
    let list = |anchor: &TrustAnchor| {
        let root = Certificate(anchor.certificate().to_vec());
        let keys = RevokedKeys { root, revoked: bytes.clone() };
        match anchor {
            TrustAnchor::Snp(_) => Some(Endorsements::Snp(keys)),
            TrustAnchor::Tpm(_) => Some(Endorsements::Tpm(keys)),
            TrustAnchor::SgxDcap(_) | TrustAnchor::Nitro(_) => None,
        }
    };
    let mut candidates: Vec<_> = anchors.iter().filter(|_| is_der).filter_map(list).collect();
    if candidates.is_empty() {
        candidates.push(endorsements::parse(path, &bytes)?);
    }
    let mut outcome = Ok(());
    for candidate in candidates {
        outcome = appraiser.endorse(candidate);
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map_err(|error| {
        refused(&format!("the endorsements in {} are refused", path.display()), &error)
    })
}

/// The account for people and programs. A refusal follows it as an error.
fn report(account: &Account) -> Report {
    let checks: Vec<Value> = account.checks.iter().map(check).collect();
    let mut json = match &account.outcome {
        Ok(found) => result(found),
        Err(error) => refusal(account, error),
    };
    let mut text = table(&account.checks);
    text.push('\n');
    text.push_str(&fields(&Value::Object(json.clone())));
    json.insert("checks".to_owned(), checks.into());
    let report = Report::new("attestation-result", Value::Object(json), text);
    match &account.outcome {
        Ok(_) => report,
        Err(error) => report.refused(refused("the evidence is refused", error)),
    }
}

fn result(result: &AttestationResult) -> Map<String, Value> {
    let grace = result.grace().map(
        |grace| json!({ "expired": time::show(grace.expired), "until": time::show(grace.until) }),
    );
    let json = json!({
        "outcome": "accepted",
        "kind": result.kind().name(),
        "measurement": result.measurement().to_string(),
        "signer": result.signer().map(|signer| signer.to_string()),
        "product_id": result.product_id(),
        "security_version": result.security_version().0,
        "platform": match result.host() {
            Host::Known(platform) => Some(platform.to_string()),
            Host::Unknown => None,
        },
        "anchor": result.anchor().to_string(),
        "anchor_class": result.anchor_class().name(),
        "tcb": view_appraisal::tcb(result.tcb()),
        "advisories": result.advisories(),
        "report_data": result.report_data().to_string(),
        "expires": time::show(result.expires()),
        "grace": grace,
    });
    object(json)
}

fn refusal(account: &Account, error: &AppraiseError) -> Map<String, Value> {
    object(json!({
        "outcome": "refused",
        "kind": account.kind.name(),
        "reason": error.reason(),
        "message": error.to_string(),
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

fn check(check: &Check) -> Value {
    let Shown { word, text, .. } = Shown::of(&check.outcome);
    json!({ "name": check.name, "source": check.source, "outcome": word, "found": text })
}

/// Every check on a line: readable without its mark, and without colours.
fn table(checks: &[Check]) -> String {
    let row = |check: &Check| {
        let Shown { mark, word, text } = Shown::of(&check.outcome);
        let cells = [mark, check.name, word, check.source, text.unwrap_or_default()];
        cells.map(str::to_owned).to_vec()
    };
    let rows: Vec<_> = checks.iter().map(row).collect();
    columns(&["", "check", "outcome", "by", "found"], &rows)
}

/// The outcome of a check in words.
struct Shown<'a> {
    mark: &'static str,
    word: &'static str,
    text: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn of(outcome: &'a CheckOutcome) -> Self {
        match outcome {
            CheckOutcome::Passed(text) => Self { mark: "✓", word: "passed", text: Some(text) },
            CheckOutcome::Skipped(text) => Self { mark: "–", word: "skipped", text: Some(text) },
            CheckOutcome::Failed(text) => Self { mark: "✗", word: "failed", text: Some(text) },
            CheckOutcome::NotReached => Self { mark: "·", word: "not-reached", text: None },
        }
    }
}

fn refused(message: &str, error: &AppraiseError) -> Diagnostic {
    Diagnostic::new(Code::EvidenceRefused, message).because(error).reason(error.reason())
}
