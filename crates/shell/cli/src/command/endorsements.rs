//! `heirloom endorsements`: what manufacturers say about platforms.

use std::path::{Path, PathBuf};

use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::{DcapCollateral, Endorsements};
use heirloom_model::limit::ENDORSEMENTS_BYTES_MAX;
use heirloom_model::wire;
use serde::Deserialize;

use crate::code::Code;
use crate::command::publish;
use crate::diagnostic::Diagnostic;
use crate::ledger::LogArgs;
use crate::output::Report;
use crate::{file, key};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Publish endorsements
    Publish(Publish),
}

/// What to publish.
#[derive(Debug, clap::Args)]
pub(crate) struct Publish {
    /// Endorsements: encoded, or collateral of a DCAP quote as JSON
    file: PathBuf,
    /// Key file of an operator or an agent; the endorsements themselves are the manufacturer's
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    let Command::Publish(args) = command;
    let endorsements = read(&args.file)?;
    let key = key::read(&args.key)?;
    publish::append(&args.log, &Envelope::signed(&endorsements, [&key]))
}

/// Reads endorsements: encoded, or collateral as JSON.
pub(crate) fn read(path: &Path) -> Result<Endorsements, Diagnostic> {
    parse(path, &file::read(path, ENDORSEMENTS_BYTES_MAX)?)
}

/// The endorsements that the bytes of a file are.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Endorsements, Diagnostic> {
    let nothing = || {
        let message = format!("{} has no endorsements in it", path.display());
        Diagnostic::new(Code::InputMalformed, message)
    };
    if bytes.first() == Some(&b'{') {
        let collateral: Collateral =
            serde_json::from_slice(bytes).map_err(|error| nothing().because(&error))?;
        return collateral.endorsements().map_err(|cause| nothing().cause(cause));
    }
    wire::decode(bytes).map_err(|error| nothing().because(&error))
}

/// Collateral of a DCAP quote as tools write it: texts as they are, bytes in hexadecimal.
#[derive(Deserialize)]
struct Collateral {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
}

/// The one field of a TCB info that says what it is about.
#[derive(Deserialize)]
struct TcbInfo {
    id: String,
}

impl Collateral {
    fn endorsements(self) -> Result<Endorsements, String> {
        let info: TcbInfo =
            serde_json::from_str(&self.tcb_info).map_err(|error| format!("tcb_info: {error}"))?;
        let bytes = |name: &str, digits: &str| {
            hex::decode(digits).map_err(|error| format!("{name}: {error}"))
        };
        let collateral = DcapCollateral {
            root_ca_crl: bytes("root_ca_crl", &self.root_ca_crl)?,
            pck_crl: bytes("pck_crl", &self.pck_crl)?,
            tcb_info_signature: bytes("tcb_info_signature", &self.tcb_info_signature)?,
            qe_identity_signature: bytes("qe_identity_signature", &self.qe_identity_signature)?,
            pck_crl_issuer_chain: self.pck_crl_issuer_chain,
            tcb_info_issuer_chain: self.tcb_info_issuer_chain,
            tcb_info: self.tcb_info,
            qe_identity_issuer_chain: self.qe_identity_issuer_chain,
            qe_identity: self.qe_identity,
        };
        match info.id.as_str() {
            "SGX" => Ok(Endorsements::SgxDcap(collateral)),
            "TDX" => Ok(Endorsements::TdxDcap(collateral)),
            other => Err(format!("tcb_info is about {other:?}, neither SGX nor TDX")),
        }
    }
}
