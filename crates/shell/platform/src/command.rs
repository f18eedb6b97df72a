//! The command line. Its doc comments are its help.

mod tpm_command;

use std::path::PathBuf;

use heirloom_emulated::state::HostRecord;
use heirloom_launcher::manifest::Manifest;
use heirloom_model::counter::Time;
use heirloom_model::digest::NetworkId;
use heirloom_model::evidence::TrustAnchor;
use heirloom_model::identifier::{ApplicationId, DomainId, HostId, ReleaseName};
use heirloom_model::release::ReleaseKind;
use heirloom_model::sealed::CpuSvn;
use heirloom_platform::error::PlatformdError;
use heirloom_platform::{bundle, machine, root};
use serde_json::{Value, json};

/// The platform of one host: an emulated SGX machine for development, or a machine with a TPM.
///
/// Nothing here is a TEE. The emulated machine proves nothing to anybody but under its own
/// development root; a TPM proves what the whole machine booted, and isolates nothing from it.
#[derive(clap::Parser)]
#[command(name = "heirloom-platformd", version)]
pub(crate) enum Command {
    /// Found a development manufacturer in a directory.
    ProvisionRoot {
        /// The manufacturer's directory; made if it is not there.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Make a machine: burn fuses and have them certified.
    Init {
        /// The manufacturer's directory.
        #[arg(long)]
        root_dir: PathBuf,
        /// The machine's directory; made if it is not there.
        #[arg(long)]
        state: PathBuf,
        /// The machine's name.
        #[arg(long)]
        host: HostId,
    },
    /// Have a machine certified again, after a microcode update.
    Certify {
        /// The manufacturer's directory.
        #[arg(long)]
        root_dir: PathBuf,
        /// The machine's directory.
        #[arg(long)]
        state: PathBuf,
    },
    /// Put the next microcode on a machine: its CPUSVN grows by one, for ever.
    ///
    /// A machine that is being served loads it when its daemon starts again. What was sealed
    /// before stays readable; what is sealed afterwards is out of reach of the older microcode.
    /// Quotes show the new CPUSVN after `certify`.
    UpdateMicrocode {
        /// The machine's directory.
        #[arg(long)]
        state: PathBuf,
    },
    /// Serve a machine until SIGTERM.
    Serve {
        /// The machine's directory.
        #[arg(long)]
        state: PathBuf,
        /// The socket to listen on.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Write the manufacturer's current collateral.
    Collateral {
        /// The manufacturer's directory.
        #[arg(long)]
        root_dir: PathBuf,
        /// Where the encoded endorsements go.
        #[arg(long)]
        out: PathBuf,
    },
    /// Write the manufacturer's trust anchor.
    Anchor {
        /// The manufacturer's directory.
        #[arg(long)]
        root_dir: PathBuf,
        /// Where the encoded trust anchor goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Revoke a machine's certificate.
    Revoke {
        /// The manufacturer's directory.
        #[arg(long)]
        root_dir: PathBuf,
        /// The machine's directory.
        #[arg(long)]
        state: PathBuf,
    },
    /// Announce that machines below a CPUSVN are out of date.
    Require {
        /// The manufacturer's directory.
        #[arg(long)]
        root_dir: PathBuf,
        /// The CPUSVN, as 32 hexadecimal digits.
        #[arg(long)]
        cpu_svn: CpuSvn,
    },
    /// Make a key that signs enclaves.
    SigningKey {
        /// Where the key goes; never overwritten.
        #[arg(long)]
        out: PathBuf,
    },
    /// Sign a binary with its manifest.
    SignBundle(SignBundle),
    /// Launch a bundle on a machine that is being served.
    Launch {
        /// The machine's socket.
        #[arg(long)]
        socket: PathBuf,
        /// The bundle's directory.
        #[arg(long)]
        bundle: PathBuf,
        /// What to call the instance.
        #[arg(long)]
        label: String,
        /// Where its standard output and standard error go, appended.
        #[arg(long)]
        log: PathBuf,
        /// Arguments of the launched program, behind `--`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// List what a machine has launched since it is served.
    List {
        /// The machine's socket.
        #[arg(long)]
        socket: PathBuf,
    },
    /// Make, approve, enrol and serve a machine with a TPM.
    #[command(subcommand)]
    Tpm(tpm_command::TpmCommand),
    /// Certify the attestation keys of machines with a TPM.
    #[command(subcommand)]
    AttestationCa(tpm_command::CaCommand),
    /// Measure and verify a bundle.
    Measure {
        /// The bundle's directory.
        bundle: PathBuf,
    },
}

/// What to sign, and for what.
#[derive(clap::Args)]
pub(crate) struct SignBundle {
    /// The key, PKCS#8 PEM.
    #[arg(long)]
    key: PathBuf,
    /// The ELF binary.
    #[arg(long)]
    binary: PathBuf,
    /// The release's name.
    #[arg(long)]
    name: ReleaseName,
    /// ISVSVN.
    #[arg(long)]
    security_version: u16,
    /// ISVPRODID.
    #[arg(long)]
    product_id: u16,
    /// The network: the digest of its first root. Without it, the code belongs to no network.
    #[arg(long, default_value_t = NetworkId::new([0; 32]))]
    network: NetworkId,
    /// What the code does. Without it, code that names an application is one, and all other code
    /// is a keeper.
    #[arg(long)]
    kind: Option<Kind>,
    /// The domain whose keys a keeper holds or an upgrader carries.
    #[arg(long)]
    domain: Option<DomainId>,
    /// The application that asks for keys.
    #[arg(long)]
    application: Option<ApplicationId>,
    /// The bundle's directory; made if it is not there.
    #[arg(long)]
    out: PathBuf,
}

/// What code does.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// It holds a domain's keys and serves applications.
    Keeper,
    /// It asks for keys.
    Application,
    /// It carries a domain's keys from one keeper to the next.
    Upgrader,
}

/// Carries out a command; returns what to print, if there is something to say.
pub(crate) fn run(command: Command, now: Time) -> Result<Option<Value>, PlatformdError> {
    Ok(match command {
        Command::ProvisionRoot { dir } => Some(describe_anchor(&root::provision(&dir, now)?)),
        Command::Init { root_dir, state, host } => {
            Some(describe_machine(&machine::init(&root_dir, &state, host)?))
        }
        Command::Certify { root_dir, state } => {
            Some(describe_machine(&machine::certify_again(&root_dir, &state)?))
        }
        Command::UpdateMicrocode { state } => {
            Some(describe_machine(&machine::update_microcode(&state)?))
        }
        Command::Serve { state, socket } => {
            machine::serve(&state, &socket)?;
            None
        }
        Command::Collateral { root_dir, out } => {
            root::write_collateral(&root_dir, &out, now)?;
            None
        }
        Command::Anchor { root_dir, out } => {
            Some(describe_anchor(&root::write_anchor(&root_dir, &out)?))
        }
        Command::Revoke { root_dir, state } => {
            root::revoke(&root_dir, &state, now)?;
            None
        }
        Command::Require { root_dir, cpu_svn } => {
            root::require(&root_dir, cpu_svn, now)?;
            None
        }
        Command::SigningKey { out } => {
            let signer = bundle::generate_key(&out)?;
            Some(json!({ "schema": "heirloom.signer.v1", "signer": signer.to_string() }))
        }
        Command::SignBundle(sign) => Some(bundle::describe(&sign.run(now)?)),
        Command::Launch { socket, bundle, label, log, arguments } => {
            Some(machine::launch(&socket, &bundle, &log, label, arguments)?)
        }
        Command::List { socket } => Some(machine::list(&socket)?),
        Command::Tpm(command) => tpm_command::run_tpm(command)?,
        Command::AttestationCa(command) => tpm_command::run_ca(command, now)?,
        Command::Measure { bundle } => Some(bundle::describe(&bundle::measure(&bundle)?)),
    })
}

impl SignBundle {
    fn run(self, now: Time) -> Result<heirloom_launcher::bundle::VerifiedBundle, PlatformdError> {
        let kind = match (self.kind, &self.application) {
            (Some(Kind::Keeper), _) | (None, None) => ReleaseKind::Keeper,
            (Some(Kind::Application), _) | (None, Some(_)) => ReleaseKind::Application,
            (Some(Kind::Upgrader), _) => ReleaseKind::Upgrader,
        };
        let manifest = Manifest {
            network: self.network,
            domain: self.domain,
            application: self.application,
            release: self.name,
            product_id: self.product_id,
            security_version: self.security_version,
            kind,
        };
        bundle::sign(&self.key, &self.binary, &manifest, &self.out, now)
    }
}

fn describe_anchor(anchor: &TrustAnchor) -> Value {
    json!({
        "schema": "heirloom.anchor.v1",
        "anchor": anchor.id().to_string(),
        "kind": "development root, not for production",
    })
}

fn describe_machine(record: &HostRecord) -> Value {
    json!({
        "schema": "heirloom.machine.v1",
        "host": record.host.as_str(),
        "platform": record.certificate.platform().to_string(),
        "cpu_svn": record.cpu_svn.to_string(),
        "certified_cpu_svn": record.certificate.cpu_svn.to_string(),
    })
}
