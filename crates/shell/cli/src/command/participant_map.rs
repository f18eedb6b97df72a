//! `heirloom participant map`: which party becomes which.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heirloom_canton::acs::Entry;
use heirloom_canton::fingerprint::fingerprint_of_spki;
use heirloom_canton::key::SigningScheme;
use heirloom_canton::name::Party;
use heirloom_model::party::{Namespace, ParticipantId, PartyId};
use heirloom_participant::custodian::key::KeyScheme;
use heirloom_participant::custodian::spki;
use heirloom_participant::map::{PARTIES_MAX, PartyMap};
use serde_json::{Value, json};

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::output::{self, Report, columns, table};
use crate::{file, participant_error, participant_file};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the map of one participant: its parties in the namespace of the new keys
    Create(Create),
    /// Show a map
    Show(Given),
    /// Make the map of the way back
    Invert(Change),
    /// Make one map of the maps of several participants
    Union(Union),
    /// Show what operators agree to: the digest
    Digest(Given),
}

/// Whose parties move, and where to.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("where").required(true)))]
#[command(group(clap::ArgGroup::new("who").required(true).multiple(true)))]
pub(crate) struct Create {
    /// The participant whose parties move
    #[arg(long, value_name = "PARTICIPANT")]
    source: ParticipantId,
    /// A snapshot: every party of the participant's namespace that stands in it moves, except the
    /// one that has the participant's own name
    #[arg(long, value_name = "FILE", group = "who")]
    snapshot: Option<PathBuf>,
    /// A party that moves, also if it stands in no contract; once for each; the one that has the
    /// participant's own name never moves, since the new participant has its own
    #[arg(long = "party", value_name = "PARTY", group = "who")]
    parties: Vec<PartyId>,
    /// A party of another namespace that keeps its name; once for each
    #[arg(long = "external", value_name = "PARTY")]
    external: Vec<PartyId>,
    /// The namespace of the new keys
    #[arg(long, value_name = "FINGERPRINT", group = "where")]
    namespace: Option<Namespace>,
    /// The public half of the new namespace key, X.509 in DER, PEM or base64
    #[arg(long, value_name = "FILE", group = "where")]
    namespace_key: Option<PathBuf>,
    /// Write the map to a new file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Which map.
#[derive(Debug, clap::Args)]
pub(crate) struct Given {
    /// Party map
    file: PathBuf,
}

/// Which map becomes which.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// Party map
    file: PathBuf,
    /// Write the map to a new file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Which maps become one.
#[derive(Debug, clap::Args)]
pub(crate) struct Union {
    /// Party maps
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write the map to a new file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A public key, or its text.
const KEY_BYTES_MAX: usize = 16 * 1024;

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    match command {
        Command::Create(args) => create(args),
        Command::Show(args) => Ok(show(&participant_file::read_map(&args.file)?)),
        Command::Invert(args) => {
            let map = participant_file::read_map(&args.file)?.invert();
            written(&map, args.out.as_deref())
        }
        Command::Union(args) => {
            let maps = args.files.iter().map(|path| participant_file::read_map(path));
            let maps = maps.collect::<Result<Vec<_>, _>>()?;
            let map = PartyMap::union(&maps).map_err(|error| participant_error::map(&error))?;
            written(&map, args.out.as_deref())
        }
        Command::Digest(args) => {
            let map = participant_file::read_map(&args.file)?;
            let (digest, parties) = (map.digest().to_string(), map.len());
            let json = json!({ "map": digest, "parties": parties });
            Ok(Report::new("participant.map.digest", json, format!("{digest}\n")))
        }
    }
}

fn create(args: &Create) -> Result<Report, Diagnostic> {
    let namespace = match (&args.namespace, &args.namespace_key) {
        (Some(namespace), _) => namespace.clone(),
        (None, Some(path)) => namespace_of(path)?,
        (None, None) => {
            let message = "the namespace of the new keys was not given";
            return Err(Diagnostic::new(Code::InputMissing, message)
                .hint("give --namespace FINGERPRINT, or --namespace-key FILE"));
        }
    };
    let mut hosted: BTreeSet<PartyId> = args.parties.iter().cloned().collect();
    if let Some(path) = &args.snapshot {
        hosted.extend(parties_of(path, &args.source.namespace())?);
        output::note(
            "a snapshot has only parties with contracts, and does not say who hosts them: name \
             the others with --party",
        );
    }
    let external: BTreeSet<PartyId> = args.external.iter().cloned().collect();
    let map = PartyMap::of_participant(&args.source, &hosted, &external, &namespace)
        .map_err(|error| participant_error::map(&error))?;
    if map.is_empty() {
        return Err(nobody(&args.source, hosted.len()));
    }
    written(&map, args.out.as_deref())
}

/// A map that moves nobody is a mistake, and whoever used it would find that out late.
fn nobody(source: &ParticipantId, seen: usize) -> Diagnostic {
    let message = format!("no party of {source} would move, so there is no map");
    let found = match seen {
        0 => "no party of its namespace was found".to_owned(),
        _ => "only parties were found that keep their names".to_owned(),
    };
    Diagnostic::new(Code::ParticipantMap, message)
        .cause(found)
        .hint("look at --source: `heirloom participant inspect` shows the parties of a snapshot")
}

/// A map that was made: on standard output, or in a new file.
fn written(map: &PartyMap, out: Option<&Path>) -> Result<Report, Diagnostic> {
    let text = map.to_text();
    let Some(path) = out else { return Ok(Report::raw(text)) };
    file::create(path, text.as_bytes())?;
    let (digest, parties) = (map.digest().to_string(), map.len());
    let shown = path.display().to_string();
    let json = json!({ "file": shown, "map": digest, "parties": parties });
    let rows = [("file", shown), ("parties", parties.to_string()), ("digest", digest)];
    Ok(Report::new("participant.map", json, table(&rows)))
}

fn show(map: &PartyMap) -> Report {
    let moves: Vec<Value> = map
        .moves()
        .map(|(from, to)| json!({ "from": from.to_string(), "to": to.to_string() }))
        .collect();
    let digest = map.digest().to_string();
    let rows: Vec<Vec<String>> =
        map.moves().map(|(from, to)| vec![from.to_string(), to.to_string()]).collect();
    let mut text = columns(&["old", "new"], &rows);
    output::line(&mut text, format_args!("\n{} parties, digest {digest}", map.len()));
    let json = json!({ "map": digest, "parties": map.len(), "moves": moves });
    Report::new("participant.map.show", json, text)
}

/// The namespace that a key is going to own.
pub(crate) fn namespace_of(path: &Path) -> Result<Namespace, Diagnostic> {
    let bytes = file::read(path, KEY_BYTES_MAX)?;
    let refused = || {
        let message = format!("{} is no public key that owns a namespace", path.display());
        Diagnostic::new(Code::InputValue, message)
            .hint("give X.509 of an Ed25519, P-256, P-384 or secp256k1 key: DER, PEM or base64")
    };
    let der = match pem::parse(&bytes) {
        Ok(found) if found.tag() == "PUBLIC KEY" => found.into_contents(),
        Ok(found) => return Err(refused().cause(format!("it is a {}", found.tag()))),
        Err(_) => match std::str::from_utf8(&bytes) {
            Ok(text) => STANDARD.decode(text.trim()).unwrap_or(bytes),
            Err(_) => bytes,
        },
    };
    let scheme = match spki::scheme_of(&der) {
        Some(KeyScheme::Ed25519) => SigningScheme::Ed25519,
        Some(KeyScheme::P256) => SigningScheme::P256,
        Some(KeyScheme::P384) => SigningScheme::P384,
        Some(KeyScheme::Secp256k1) => SigningScheme::Secp256k1,
        Some(other) => return Err(refused().cause(format!("a {other} key signs no topology"))),
        None => return Err(refused()),
    };
    let fingerprint =
        fingerprint_of_spki(scheme, &der).map_err(|error| refused().because(&error))?;
    Ok(fingerprint.to_namespace())
}

/// Every party of a namespace that signs or sees a contract of a snapshot.
fn parties_of(path: &Path, namespace: &Namespace) -> Result<BTreeSet<PartyId>, Diagnostic> {
    let mut found = BTreeSet::new();
    for (number, frame) in (1..).zip(participant_file::entries(path)?) {
        let read = frame.and_then(|frame| Entry::decode(&frame));
        let entry = read.map_err(|error| participant_file::entry_error(path, number, &error))?;
        let stakeholders = match &entry {
            Entry::Current(active) => active
                .contract()
                .map_err(|error| participant_file::entry_error(path, number, &error.into()))?
                .stakeholders(),
            Entry::Old(old) => old.signatories.union(&old.observers).cloned().collect(),
            Entry::Second(old) => {
                old.contract.signatories.union(&old.contract.observers).cloned().collect()
            }
        };
        let parties = stakeholders.iter().map(Party::as_party_id).filter_map(Result::ok);
        found.extend(parties.filter(|party| party.namespace() == *namespace));
        if found.len() > PARTIES_MAX {
            let message = format!("{} has more than {PARTIES_MAX} parties", path.display());
            return Err(Diagnostic::new(Code::ParticipantMap, message));
        }
    }
    Ok(found)
}
