//! `heirloom init`: a new network in a new directory, whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use heirloom_model::counter::{Serial, Time};
use heirloom_model::digest::{DigestOf as _, NetworkId};
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::TrustAnchor;
use heirloom_model::root::{Role, RoleKeys, Root};
use heirloom_model::signature::SigningKey;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_registry::port::LogStore as _;
use heirloom_store::log_file::LogFile;
use serde_json::json;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::output::{self, Report, table};
use crate::{anchor, file, key, ledger, time, view_appraisal};

/// Make a network: keys for every role, the first root, and a log that begins with it.
///
/// The directory must be new or empty; nothing is ever overwritten. Afterwards give each key
/// file to the person who keeps it, and the directory without `keys` to whoever runs the registry.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory to make
    directory: PathBuf,
    /// Attestation root: a certificate in DER or PEM, or encoded; `sgx:` (for SGX and TDX), `snp:`,
    /// `nitro:` or `tpm:` in front of it says for what, `sgx:` if nothing does; repeat it for
    /// several
    #[arg(
        long = "anchor",
        value_name = "KIND:FILE",
        required_unless_present = "without_keepers",
        conflicts_with = "without_keepers"
    )]
    anchors: Vec<PathBuf>,
    /// Trust no attestation root: the network can have no keeper, and moves participants only
    #[arg(long)]
    without_keepers: bool,
    /// Root keys
    #[arg(long, value_name = "N", default_value_t = 3)]
    root_keys: u32,
    /// Root keys that must sign
    #[arg(long, value_name = "K", default_value_t = 2)]
    root_threshold: u32,
    /// Release keys
    #[arg(long, value_name = "N", default_value_t = 2)]
    release_keys: u32,
    /// Release keys that must sign
    #[arg(long, value_name = "K", default_value_t = 1)]
    release_threshold: u32,
    /// Policy keys
    #[arg(long, value_name = "N", default_value_t = 3)]
    policy_keys: u32,
    /// Policy keys that must sign
    #[arg(long, value_name = "K", default_value_t = 2)]
    policy_threshold: u32,
    /// Operator keys
    #[arg(long, value_name = "N", default_value_t = 3)]
    operators: u32,
    /// Operators that must approve
    #[arg(long, value_name = "K", default_value_t = 2)]
    operator_threshold: u32,
    /// Timekeeper keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    timekeepers: u32,
    /// Timekeepers that must sign an epoch
    #[arg(long, value_name = "K", default_value_t = 1)]
    timekeeper_threshold: u32,
    /// When the first root expires
    #[arg(long, value_name = "TIME", default_value = "+365d", value_parser = time::parse)]
    not_after: Time,
    /// Address at which the registry will be served
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
}

/// Makes the network.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let anchors = anchor::read_all(Path::new(""), &args.anchors)?;
    require_new(&args.directory)?;
    let staged = staging(&args.directory)?;
    let made = fill(&staged, args, anchors.clone()).and_then(|network| {
        fs::rename(&staged, &args.directory)
            .map_err(|error| file::failed("create", &args.directory, &error))?;
        Ok(network)
    });
    let network = match made {
        Ok(network) => network,
        Err(error) => {
            // The keys in it have signed nothing that anybody has seen.
            let _removed = fs::remove_dir_all(&staged);
            return Err(error);
        }
    };
    anchor::warn(&anchors);
    let shown = args.directory.display().to_string();
    let described: Vec<_> = anchors.iter().map(view_appraisal::anchor).collect();
    let mut rows = vec![
        ("network", network.to_string()),
        ("directory", shown.clone()),
        ("keys", format!("{shown}/keys: give each to the person who keeps it")),
        ("log", format!("{shown}/registry.log")),
    ];
    rows.extend(anchors.iter().map(|anchor| ("anchor", anchor::describe(anchor))));
    let json = json!({ "network": network.to_string(), "directory": shown, "anchors": described });
    let text = table(&rows);
    Ok(Report::new("init", json, text))
}

/// Writes everything into a directory that nobody uses yet.
fn fill(directory: &Path, args: &Args, anchors: Vec<TrustAnchor>) -> Result<NetworkId, Diagnostic> {
    let keys = directory.join("keys");
    file::create_directory(&keys)?;
    let mut roles = Vec::new();
    let mut root_keys = Vec::new();
    for role in Role::ALL {
        let (count, threshold) = args.keys_of(role);
        let made = create_keys(&keys, role, count)?;
        let mut public: Vec<_> = made.iter().map(SigningKey::public_key).collect();
        public.sort_unstable();
        roles.push(RoleKeys { role, keys: public, threshold });
        if role == Role::Root {
            root_keys = made;
        }
    }
    let root = Root { network: None, serial: Serial(1), roles, anchors, not_after: args.not_after };
    let envelope = Envelope::signed(&root, &root_keys);
    let network = NetworkId::of(envelope.payload.as_slice());
    let encoded = wire::encode(&envelope);
    NetworkState::new(network).judge(&encoded).map_err(|refusal| ledger::refused(&refusal))?;
    file::create(&directory.join("root.statement"), &encoded)?;
    let log = LogFile::create(&directory.join("registry.log"))
        .map_err(|error| file::store_error(&error))?;
    log.append(heirloom_model::counter::LogIndex(0), &encoded).map_err(|error| {
        Diagnostic::new(Code::FileFailed, "the log was not begun").because(&error)
    })?;
    let mut text = format!("network = \"{network}\"\n");
    if let Some(url) = &args.registry {
        output::line(&mut text, format_args!("registry = {}", toml::Value::from(url.as_str())));
    }
    file::create(&directory.join("network.toml"), text.as_bytes())?;
    Ok(network)
}

impl Args {
    /// How many keys of a role, and how many of them must sign.
    fn keys_of(&self, role: Role) -> (u32, u32) {
        match role {
            Role::Root => (self.root_keys, self.root_threshold),
            Role::Release => (self.release_keys, self.release_threshold),
            Role::Policy => (self.policy_keys, self.policy_threshold),
            Role::Operator => (self.operators, self.operator_threshold),
            Role::Timekeeper => (self.timekeepers, self.timekeeper_threshold),
        }
    }
}

fn create_keys(directory: &Path, role: Role, count: u32) -> Result<Vec<SigningKey>, Diagnostic> {
    let limit = u32::try_from(heirloom_model::limit::ROLE_KEYS_MAX).unwrap_or(u32::MAX);
    if count > limit {
        let message = format!("{count} {} keys are more than the {limit} allowed", role.name());
        return Err(Diagnostic::new(Code::InputValue, message));
    }
    let path = |number: u32| directory.join(format!("{}-{number}.key", role.name()));
    (1..=count).map(|number| key::create(&path(number))).collect()
}

/// Refuses a directory with anything in it.
fn require_new(directory: &Path) -> Result<(), Diagnostic> {
    let mut entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file::failed("look into", directory, &error)),
        Ok(entries) => entries,
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let message = format!("{} exists already and is not empty", directory.display());
    Err(Diagnostic::new(Code::FileExists, message))
}

/// A new directory beside the one to make.
fn staging(directory: &Path) -> Result<PathBuf, Diagnostic> {
    let Some(name) = directory.file_name() else {
        let message = format!("{} has no name of its own", directory.display());
        return Err(Diagnostic::new(Code::InputValue, message).hint("name a new directory"));
    };
    let mut staged = name.to_os_string();
    staged.push(format!(".{}.new", std::process::id()));
    let staged = directory.with_file_name(staged);
    file::create_directory(&staged)?;
    Ok(staged)
}
