//! `heirloom release`: measured code.

use std::path::{Path, PathBuf};

use heirloom_model::counter::Time;
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::release::Release;
use heirloom_model::statement::StatementKind;
use heirloom_model::wire;
use serde_json::json;

use crate::code::Code;
use crate::command::release_input::Platform;
use crate::command::{publish, release_input};
use crate::diagnostic::Diagnostic;
use crate::ledger::{self, Access, LogArgs};
use crate::output::{Report, table};
use crate::statement::{self, SignArgs};
use crate::time;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Sign the release of a bundle directory, or add a signature to a statement
    ///
    /// The bundle is measured and its SIGSTRUCT is checked before anything is signed.
    Sign(Sign),
    /// Publish a release statement
    Publish(publish::Args),
    /// Show a release statement
    Show {
        /// Statement file
        file: PathBuf,
    },
    /// Verify a release statement against the network's root, and a bundle against the release
    Verify(Verify),
}

/// What to sign.
#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    statement: SignArgs,
    /// When the release may not be installed any more
    #[arg(long, value_name = "TIME", default_value = "+365d", value_parser = time::parse)]
    not_after: Time,
    /// Platform on which the bundle may be launched; repeat it for several
    ///
    /// The release has one measurement for each: the same code is another one on another kind of
    /// platform, and a policy that names one of them admits no other.
    /// Without this and without measurements it is the emulated CPU.
    #[arg(long = "platform", value_name = "PLATFORM", value_enum)]
    platforms: Vec<Platform>,
    /// What the same keeper measures in a TEE that no launcher of ours stands for, as `KIND:HEX`;
    /// repeat it for several kinds
    ///
    /// Nobody computes it here: it is what the tools of that platform said when the enclave or the
    /// image was built, and it is signed as it stands.
    #[arg(long = "measurement", value_name = "KIND:HEX")]
    measurements: Vec<Measurement>,
}

/// What to verify.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Statement file
    file: PathBuf,
    /// Bundle directory that must be the one of the release
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// A measurement of the release that no launcher of ours makes, as `KIND:HEX`: it must be
    /// there, and is not computed from the bundle; repeat it for several kinds
    #[arg(long = "measurement", value_name = "KIND:HEX", requires = "bundle")]
    measurements: Vec<Measurement>,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    match command {
        Command::Sign(args) => {
            let kinds = release_input::kinds(&args.platforms, &args.measurements);
            let input = |path: &Path| {
                release_input::release(path, &kinds, &args.measurements, args.not_after)
            };
            statement::sign(&args.statement, input)
        }
        Command::Publish(args) => publish::run(args, StatementKind::Release),
        Command::Show { file } => statement::show(file, StatementKind::Release),
        Command::Verify(args) => verify(args),
    }
}

fn verify(args: &Verify) -> Result<Report, Diagnostic> {
    let (envelope, release) = statement::read_as::<Release>(&args.file)?;
    statement::verify_signatures(&envelope, &args.file)?;
    let mut ledger = args.log.open(Access::Read)?;
    let is_published =
        ledger.state.release(&release.digest()).is_some_and(|known| *known.get() == release);
    if !is_published {
        let encoded = wire::encode(&envelope);
        ledger.state.judge(&encoded).map_err(|refusal| ledger::refused(&refusal))?;
    }
    if let Some(bundle) = &args.bundle {
        require_same(bundle, &args.measurements, &release)?;
    }
    let measurements: Vec<String> = release.measurements.iter().map(ToString::to_string).collect();
    let text = table(&[
        ("release", release.name.to_string()),
        ("digest", release.digest().to_string()),
        ("measurement", measurements.join(" ")),
        ("published", if is_published { "yes" } else { "not yet" }.to_owned()),
        (
            "bundle",
            if args.bundle.is_some() { "is that of the release" } else { "not given" }.into(),
        ),
    ]);
    let json = json!({
        "name": release.name.to_string(),
        "digest": release.digest().to_string(),
        "measurements": measurements,
        "published": is_published,
        "bundle_verified": args.bundle.is_some(),
    });
    Ok(Report::new("release.verified", json, text))
}

fn require_same(
    bundle: &Path,
    measurements: &[Measurement],
    release: &Release,
) -> Result<(), Diagnostic> {
    let said = |kind: &TeeKind| measurements.iter().any(|known| known.kind() == *kind);
    let kinds = release.measurements.iter().map(Measurement::kind);
    let kinds: Vec<TeeKind> = kinds.filter(|kind| !said(kind)).collect();
    let found = release_input::release(bundle, &kinds, measurements, release.not_after)?;
    if found == *release {
        return Ok(());
    }
    let message = format!("{} is not the bundle of {}", bundle.display(), release.name);
    let artifact = release.artifacts.iter().find(|known| !found.artifacts.contains(known));
    let cause = match artifact {
        Some(artifact) => format!("{} is missing or has other bytes", artifact.name),
        None => "it has more files, or its manifest says something else".to_owned(),
    };
    Err(Diagnostic::new(Code::BundleOther, message).cause(cause))
}
