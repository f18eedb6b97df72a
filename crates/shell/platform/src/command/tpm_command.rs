//! Commands about machines with a TPM.

use std::path::{Path, PathBuf};

use heirloom_launcher::files;
use heirloom_launcher::users::{AgentGroup, UserRange};
use heirloom_model::counter::Time;
use heirloom_model::identifier::{HostId, PlatformId};
use heirloom_model::wire;
use heirloom_platform::attestation_ca::{Certified, EndorsementKeys};
use heirloom_platform::error::PlatformdError;
use heirloom_platform::seclusion::seclude;
use heirloom_platform::{attestation_ca, tpm};
use heirloom_tpm::machine::address::TpmAddress;
use heirloom_tpm::machine::setup::Earlier;
use serde_json::{Value, json};

/// Machines with a TPM.
#[derive(clap::Subcommand)]
pub(crate) enum TpmCommand {
    /// Make the key of an authority, which approves hosts. Keep it away from the hosts.
    AuthorityKey {
        /// Where the key goes; never overwritten.
        #[arg(long)]
        out: PathBuf,
        /// Where its public half goes, which machines are made with.
        #[arg(long)]
        public: PathBuf,
    },
    /// Make a machine: keys in its TPM, a secret that only approved hosts open. Once, and never at
    /// start.
    Init {
        #[command(flatten)]
        machine: Machine,
        /// The machine's name.
        #[arg(long)]
        host: HostId,
        /// The public half of the authority's key.
        #[arg(long)]
        authority: PathBuf,
    },
    /// Write what the authority is asked to approve: the host as it runs now.
    Request {
        #[command(flatten)]
        machine: Machine,
        /// Where the request goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Approve a host, with the authority's key. Compare host, platform, count and the registers
    /// that changed since the last approval with what the host should have, before anybody gets the
    /// approval. What was approved is kept beside the key, in a directory with its name and
    /// `.approved`: keep that with the key.
    Approve {
        /// The authority's key.
        #[arg(long)]
        key: PathBuf,
        /// The request.
        #[arg(long)]
        request: PathBuf,
        /// Once this approval was installed, earlier ones never open the secret again.
        #[arg(long)]
        retire_earlier: bool,
        /// Where the approval goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Install an approval of the host that runs now, after it opened the secret once.
    InstallApproval {
        #[command(flatten)]
        machine: Machine,
        /// The approval.
        #[arg(long)]
        approval: PathBuf,
    },
    /// Install an approval of the host that will run after the next start.
    StageApproval {
        #[command(flatten)]
        machine: Machine,
        /// The approval.
        #[arg(long)]
        approval: PathBuf,
    },
    /// Write what an attestation CA needs to know.
    EnrolRequest {
        #[command(flatten)]
        machine: Machine,
        /// Where the request goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Answer the challenge of an attestation CA.
    EnrolAnswer {
        #[command(flatten)]
        machine: Machine,
        /// The challenge.
        #[arg(long)]
        challenge: PathBuf,
        /// Where the answer goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Install the certificate of the attestation key.
    EnrolInstall {
        #[command(flatten)]
        machine: Machine,
        /// The certificates.
        #[arg(long)]
        certificates: PathBuf,
    },
    /// Serve the machine until SIGTERM, as root. Each bundle runs under a user of its own.
    Serve {
        #[command(flatten)]
        machine: Machine,
        /// The socket to listen on.
        #[arg(long)]
        socket: PathBuf,
        /// Users for bundles, FIRST-LAST: numbers that belong to nobody. Never make it begin
        /// elsewhere; at its end it may become longer.
        #[arg(long)]
        bundle_users: Option<UserRange>,
        /// The group of the host's agent, which bundles have too. Besides root, only this group
        /// may launch, and no user of a bundle.
        #[arg(long)]
        agent_group: Option<AgentGroup>,
    },
}

/// Which machine.
#[derive(clap::Args)]
pub(crate) struct Machine {
    /// The machine's directory.
    #[arg(long)]
    state: PathBuf,
    /// The TPM: `unix:PATH`, `tcp:ADDRESS:PORT`, or a device.
    #[arg(long)]
    tpm: TpmAddress,
}

/// An attestation CA.
#[derive(clap::Subcommand)]
pub(crate) enum CaCommand {
    /// Found an attestation CA in a directory.
    Found {
        /// The CA's directory; made if it is not there.
        #[arg(long)]
        dir: PathBuf,
        /// Where the encoded trust anchor goes.
        #[arg(long)]
        anchor: PathBuf,
        /// Which endorsement keys name machines, for ever. A TPM has a key of each kind, and would
        /// be two machines for a CA that takes both.
        #[arg(long)]
        endorsement_keys: Keys,
    },
    /// Write a challenge that only the TPM of a request opens.
    Challenge {
        #[command(flatten)]
        enrolment: Enrolment,
        /// Where the challenge goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Certify the attestation key of a request whose challenge was answered.
    Certify {
        #[command(flatten)]
        enrolment: Enrolment,
        /// The answer.
        #[arg(long)]
        answer: PathBuf,
        /// Where the certificates go.
        #[arg(long)]
        out: PathBuf,
    },
    /// List the certificates that the CA issued, and which it took back.
    List {
        /// The CA's directory.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Take back every certificate of a machine, for ever, and write the list that says so.
    Revoke {
        /// The CA's directory.
        #[arg(long)]
        dir: PathBuf,
        /// The machine.
        #[arg(long)]
        platform: PlatformId,
        /// Where the encoded endorsements go, which `heirloom endorsements publish` takes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Write the list of what was taken back anew: each is good for thirty days.
    Revocations {
        /// The CA's directory.
        #[arg(long)]
        dir: PathBuf,
        /// Where the encoded endorsements go, which `heirloom endorsements publish` takes.
        #[arg(long)]
        out: PathBuf,
    },
}

/// A kind of endorsement key.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Keys {
    /// RSA, of which most TPMs have a certificate.
    Rsa,
    /// P-256.
    P256,
}

/// A request, and who is asked.
#[derive(clap::Args)]
pub(crate) struct Enrolment {
    /// The CA's directory.
    #[arg(long)]
    dir: PathBuf,
    /// The machine's request.
    #[arg(long)]
    request: PathBuf,
    /// Certificates of TPM manufacturers, PEM: roots, and what is between them and TPMs.
    #[arg(long)]
    manufacturers: PathBuf,
}

/// Carries out a command about a machine.
pub(crate) fn run_tpm(command: TpmCommand) -> Result<Option<Value>, PlatformdError> {
    seclude()?;
    match command {
        TpmCommand::AuthorityKey { out, public } => {
            let authority = tpm::generate_authority(&out, &public)?;
            return Ok(Some(tpm::describe_authority(&authority)));
        }
        TpmCommand::Init { machine: Machine { state, tpm: at }, host, authority } => {
            let record = tpm::init(&state, &at, host, &authority)?;
            return Ok(Some(tpm::describe(&record)?));
        }
        TpmCommand::Request { machine: Machine { state, tpm: at }, out } => {
            return Ok(Some(tpm::describe_request(&tpm::request(&state, &at, &out)?)));
        }
        TpmCommand::Approve { key, request, retire_earlier, out } => {
            let earlier = if retire_earlier { Earlier::Retired } else { Earlier::Hold };
            let approved = tpm::approve(&key, &request, earlier, &out)?;
            return Ok(Some(tpm::describe_admitted(&approved)));
        }
        TpmCommand::InstallApproval { machine: Machine { state, tpm: at }, approval } => {
            tpm::install_approval(&state, &at, &approval)?;
        }
        TpmCommand::StageApproval { machine: Machine { state, tpm: at }, approval } => {
            tpm::stage_approval(&state, &at, &approval)?;
        }
        TpmCommand::EnrolRequest { machine: Machine { state, tpm: at }, out } => {
            tpm::enrol_request(&state, &at, &out)?;
        }
        TpmCommand::EnrolAnswer { machine: Machine { state, tpm: at }, challenge, out } => {
            tpm::enrol_answer(&state, &at, &challenge, &out)?;
        }
        TpmCommand::EnrolInstall { machine: Machine { state, tpm: at }, certificates } => {
            tpm::enrol_install(&state, &at, &certificates)?;
        }
        TpmCommand::Serve {
            machine: Machine { state, tpm: at },
            socket,
            bundle_users: users,
            agent_group: group,
        } => tpm::serve(&state, &at, &socket, tpm::Accounts { users, group })?,
    }
    Ok(None)
}

/// Carries out a command of an attestation CA.
pub(crate) fn run_ca(command: CaCommand, now: Time) -> Result<Option<Value>, PlatformdError> {
    seclude()?;
    match command {
        CaCommand::Found { dir, anchor, endorsement_keys } => {
            // Who trusted another CA would trust this one instead.
            files::refuse_present(&anchor)?;
            let endorsement_keys = match endorsement_keys {
                Keys::Rsa => EndorsementKeys::Rsa,
                Keys::P256 => EndorsementKeys::P256,
            };
            let founded = attestation_ca::found(&dir, endorsement_keys, now)?;
            files::create(&anchor, &wire::encode(&founded))?;
            Ok(Some(json!({
                "schema": "heirloom.anchor.v1",
                "anchor": founded.id().to_string(),
                "kind": "attestation CA for machines with a TPM",
                "endorsement_keys": endorsement_keys.name(),
            })))
        }
        CaCommand::Challenge { enrolment: Enrolment { dir, request, manufacturers }, out } => {
            let manufacturers = attestation_ca::read_manufacturers(&manufacturers)?;
            let request = files::read_value(&request)?;
            let challenge = attestation_ca::challenge(&dir, &request, &manufacturers, now)?;
            files::replace(&out, &wire::encode(&challenge))?;
            Ok(None)
        }
        CaCommand::Certify {
            enrolment: Enrolment { dir, request, manufacturers },
            answer,
            out,
        } => {
            let manufacturers = attestation_ca::read_manufacturers(&manufacturers)?;
            let (request, answer) = (files::read_value(&request)?, files::read_value(&answer)?);
            let chain = attestation_ca::certify(&dir, &request, &manufacturers, &answer, now)?;
            files::replace(&out, &wire::encode(&chain))?;
            Ok(None)
        }
        CaCommand::List { dir } => Ok(Some(list_certified(&dir)?)),
        CaCommand::Revoke { dir, platform, out } => {
            let list = attestation_ca::revoke(&dir, &platform, now)?;
            files::replace(&out, &wire::encode(&list))?;
            Ok(Some(list_certified(&dir)?))
        }
        CaCommand::Revocations { dir, out } => {
            let list = attestation_ca::revocations(&dir, now)?;
            files::replace(&out, &wire::encode(&list))?;
            Ok(None)
        }
    }
}

fn list_certified(dir: &Path) -> Result<Value, PlatformdError> {
    let certified = attestation_ca::certified(dir)?;
    let line = |one: &Certified| -> Result<Value, PlatformdError> {
        Ok(json!({
            "platform": one.platform.to_string(),
            "serial": hex::encode(&one.serial),
            "issued": one.issued.0,
            "until": one.until.0,
            "revoked": one.revoked(dir)?.map(|at| at.0),
        }))
    };
    let lines = certified.iter().map(line).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "schema": "heirloom.certified.v1", "certified": lines }))
}
