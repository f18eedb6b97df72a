//! `heirloom evidence collect`: which TEE is here, and evidence from it.

use std::error::Error as _;
use std::path::PathBuf;

use heirloom_hardware::find::{self, Places, Sighting, State};
use heirloom_keeper::port::PlatformIdentity;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::wire;
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::evidence_input;
use crate::diagnostic::Diagnostic;
use crate::file;
use crate::output::{Report, columns, line};

/// What to ask for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Report data that the evidence shall carry, as 128 hexadecimal digits; without it the command
    /// only looks
    #[arg(long, value_name = "HEX")]
    report_data: Option<ReportData>,
    /// Where encoded evidence goes, instead of standard output in hexadecimal; never overwritten
    #[arg(long, value_name = "FILE", requires = "report_data")]
    out: Option<PathBuf>,
    /// Certificate of the key of this SEV-SNP machine, then of its issuer, if the host does not hand
    /// them out: DER or PEM; repeat it for several
    #[arg(long = "certificate", value_name = "FILE")]
    certificates: Vec<PathBuf>,
}

/// Looks, and collects.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let certificates = evidence_input::certificates(&args.certificates)?;
    let found = find::find(&Places::default(), &certificates);
    let places: Vec<Value> = found.0.iter().map(sighting).collect();
    let mut text = table(&places);
    let (interface, platform) = match found.only() {
        Ok(usable) => usable,
        Err(error) => {
            let json = json!({ "places": places, "interface": null, "evidence": null });
            let refusal =
                Diagnostic::new(Code::TeeAbsent, "no evidence can be collected").because(&error);
            return Ok(Report::new("evidence.collect", json, text).refused(refusal));
        }
    };
    let evidence = match &args.report_data {
        None => None,
        Some(data) => Some(platform.evidence(data).map_err(|error| {
            let message = format!("{interface} made no evidence");
            Diagnostic::new(Code::PlatformFailed, message).because(&error)
        })?),
    };
    let encoded = evidence.as_ref().map(wire::encode);
    let shown = match (&encoded, &args.out) {
        (Some(bytes), Some(path)) => {
            file::create(path, bytes)?;
            line(&mut text, format_args!("\nwritten to {}", path.display()));
            None
        }
        (Some(bytes), None) => {
            let digits = hex::encode(bytes);
            line(&mut text, format_args!("\n{digits}"));
            Some(digits)
        }
        (None, _) => None,
    };
    let json = json!({
        "places": places,
        "interface": interface.to_string(),
        "kind": evidence.as_ref().map(|evidence| evidence.kind().name()),
        "digest": evidence.as_ref().map(Evidence::digest).map(|digest| digest.to_string()),
        "evidence": shown,
    });
    Ok(Report::new("evidence.collect", json, text))
}

fn sighting(found: &Sighting) -> Value {
    let (state, why, identity) = match &found.state {
        State::Absent => ("absent", None, None),
        State::Usable { identity, .. } => ("usable", None, Some(self::identity(identity))),
        State::Unusable(error) => {
            let mut why = error.to_string();
            let mut next = error.source();
            while let Some(cause) = next {
                why = format!("{why}: {cause}");
                next = cause.source();
            }
            ("unusable", Some(why), None)
        }
    };
    json!({
        "interface": found.interface.to_string(),
        "place": found.place.display().to_string(),
        "state": state,
        "why": why,
        "identity": identity,
    })
}

fn identity(identity: &PlatformIdentity) -> Value {
    json!({
        "measurement": identity.measurement.to_string(),
        "security_version": identity.isv_svn,
        "debug": identity.debug,
        "platform": identity.platform.to_string(),
    })
}

fn table(places: &[Value]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |place: &Value| {
        let why = match place["identity"]["measurement"].as_str() {
            Some(measurement) => measurement.to_owned(),
            None => text(&place["why"]),
        };
        vec![text(&place["interface"]), text(&place["state"]), text(&place["place"]), why]
    };
    let rows: Vec<_> = places.iter().map(row).collect();
    columns(&["interface", "state", "place", "what it says"], &rows)
}
