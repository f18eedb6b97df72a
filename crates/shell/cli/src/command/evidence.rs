//! `heirloom evidence`: what attesters say about themselves.

use std::path::PathBuf;

use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::error::AppraiseError;
use heirloom_attest::result::Host;
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Evidence, ReportData, TrustAnchor};
use heirloom_model::limit::EVIDENCE_BYTES_MAX;
use heirloom_model::wire;
use serde_json::json;

use crate::code::Code;
use crate::command::{endorsements, evidence_decode, init, policy_input};
use crate::diagnostic::Diagnostic;
use crate::output::Report;
use crate::{file, time, view};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what evidence says, and what of it could not be checked
    ///
    /// Reads an Oasis `extra_info` value (base64, hexadecimal, or a file), a quote, encoded
    /// evidence, or a whole `control status` document of any Oasis release.
    Decode(evidence_decode::Args),
    /// Appraise evidence under given anchors, endorsements and rules
    Appraise(Appraise),
}

/// What to appraise, and by what.
#[derive(Debug, clap::Args)]
pub(crate) struct Appraise {
    /// Quote, or encoded evidence
    evidence: PathBuf,
    /// Certificate of an attestation root, DER or PEM; repeat it for several
    #[arg(long = "anchor", value_name = "FILE", required = true)]
    anchors: Vec<PathBuf>,
    /// Encoded endorsements; repeat it for several families
    #[arg(long = "endorsements", value_name = "FILE", required = true)]
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

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    match command {
        Command::Decode(args) => evidence_decode::run(args),
        Command::Appraise(args) => appraise(args),
    }
}

/// A quote, or the encoding of evidence.
pub(crate) fn parse(bytes: Vec<u8>) -> Evidence {
    wire::decode(&bytes).unwrap_or(Evidence::SgxDcap(bytes))
}

fn appraise(args: &Appraise) -> Result<Report, Diagnostic> {
    let evidence = parse(file::read(&args.evidence, EVIDENCE_BYTES_MAX)?);
    let rules = policy_input::parse_appraisal(&args.rules)?;
    let anchors: Vec<TrustAnchor> = init::anchors(&args.anchors)?;
    let mut appraiser = Appraiser::new(anchors);
    for path in &args.endorsements {
        let found = endorsements::read(path)?;
        appraiser.endorse(found).map_err(|error| {
            refused(&format!("the endorsements in {} are refused", path.display()), &error)
        })?;
    }
    let now = args.time.unwrap_or_else(time::now);
    let result = appraiser
        .appraise(&evidence, &args.report_data, &rules, now)
        .map_err(|error| refused("the evidence is refused", &error))?;
    let grace = result.grace().map(
        |grace| json!({ "expired": time::show(grace.expired), "until": time::show(grace.until) }),
    );
    let json = json!({
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
        "tcb": view::tcb(&result.tcb()),
        "advisories": result.advisories(),
        "report_data": result.report_data().to_string(),
        "expires": time::show(result.expires()),
        "grace": grace,
    });
    Ok(Report::fields("attestation-result", json))
}

fn refused(message: &str, error: &AppraiseError) -> Diagnostic {
    Diagnostic::new(Code::EvidenceRefused, message).because(error).reason(error.reason())
}
