//! `heirloom participant inspect`: what files are and what they have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heirloom_canton::acs::{ActiveContract, Entry};
use heirloom_canton::blob::FatContract;
use heirloom_canton::contract_id::ContractId;
use heirloom_canton::dar::{Dar, Package};
use heirloom_canton::instance1::OldContract;
use heirloom_canton::name::Party;
use heirloom_canton::topology::mapping::Mapping;
use heirloom_canton::topology::snapshot::Item;
use heirloom_canton::topology::{Operation, SignedTransaction};
use heirloom_participant::contract_map::ContractMapReader;
use heirloom_participant::map::PartyMap;
use serde_json::{Value, json};

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::output::{self, Report, columns, table};
use crate::participant_file::{self, Found};
use crate::{file, view_file};

/// What to look at.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Snapshots, DARs, packages, topology exports, party maps, contract maps, or single contracts
    /// as bytes, base64 or hexadecimal
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Different names of one kind that are counted one by one: a snapshot may have a party for each
/// customer.
const NAMES_MAX: usize = 100_000;
/// Rows of a table for people. JSON has all of them.
const ROWS_SHOWN: usize = 20;

/// Looks.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let (mut shown, mut text) = (Vec::new(), String::new());
    for path in &args.files {
        let looked = look(path)?;
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&looked.text(path));
        shown.push(looked.json(path));
    }
    Ok(Report::new("participant.inspect", json!({ "files": shown }), text))
}

/// What one file came to.
struct Looked {
    kind: &'static str,
    /// What fits on a line each.
    rows: Vec<(&'static str, String)>,
    /// Names and how often they occur.
    counts: Vec<(&'static str, Counts)>,
    /// Everything, for programs.
    json: Value,
}

impl Looked {
    fn json(&self, path: &Path) -> Value {
        let mut json = self.json.clone();
        if let Value::Object(fields) = &mut json {
            fields.insert("file".to_owned(), path.display().to_string().into());
            fields.insert("kind".to_owned(), self.kind.into());
            for (name, counts) in &self.counts {
                fields.insert((*name).to_owned(), counts.json());
            }
        }
        json
    }

    fn text(&self, path: &Path) -> String {
        let mut rows = vec![("file", path.display().to_string()), ("kind", self.kind.to_owned())];
        rows.extend(self.rows.iter().cloned());
        let mut text = table(&rows);
        for (name, counts) in self.counts.iter().filter(|(_, counts)| !counts.found.is_empty()) {
            text.push('\n');
            text.push_str(&counts.text(name));
        }
        text
    }
}

/// How often names occur.
#[derive(Default)]
struct Counts {
    found: BTreeMap<String, u64>,
    /// Occurrences of names beyond [`NAMES_MAX`].
    others: u64,
}

impl Counts {
    fn add(&mut self, name: &str) {
        if let Some(count) = self.found.get_mut(name) {
            *count = count.saturating_add(1);
        } else if self.found.len() < NAMES_MAX {
            self.found.insert(name.to_owned(), 1);
        } else {
            self.others = self.others.saturating_add(1);
        }
    }

    fn json(&self) -> Value {
        let list = self.found.iter().map(|(name, count)| json!({ "name": name, "count": count }));
        let list: Vec<Value> = list.collect();
        json!({ "listed": list, "others": self.others })
    }

    fn text(&self, name: &str) -> String {
        let mut sorted: Vec<(&String, &u64)> = self.found.iter().collect();
        sorted.sort_by(|left, right| right.1.cmp(left.1).then(left.0.cmp(right.0)));
        let rows = sorted.iter().take(ROWS_SHOWN);
        let rows: Vec<Vec<String>> =
            rows.map(|(name, count)| vec![count.to_string(), (*name).clone()]).collect();
        let mut text = columns(&["count", name], &rows);
        let hidden = self.found.len().saturating_sub(ROWS_SHOWN);
        if hidden > 0 || self.others > 0 {
            output::line(&mut text, format_args!("and {hidden} more, which --json shows"));
        }
        text
    }
}

fn look(path: &Path) -> Result<Looked, Diagnostic> {
    Ok(match participant_file::open(path)? {
        Found::Contract(contract) => of_contract(&contract),
        Found::ContractMap => of_contract_map(path)?,
        Found::Dar(dar) => of_dar(&dar),
        Found::OldContract(contract) => of_old_contract(&contract),
        Found::Package(package) => of_package(&package),
        Found::PartyMap(map) => of_party_map(&map),
        Found::Report(text) => of_report(&text),
        Found::Snapshot => of_snapshot(path)?,
        Found::Topology(items) => of_topology(&items),
        Found::Transaction(transaction) => of_transaction(&transaction),
    })
}

/// What a snapshot has.
#[derive(Default)]
struct Contents {
    entries: u64,
    reassigned: u64,
    forms: Counts,
    versions: Counts,
    templates: Counts,
    packages: Counts,
    parties: Counts,
    synchronizers: Counts,
}

impl Contents {
    fn id(&mut self, id: &ContractId) {
        let version = id.version().map_or("unknown".to_owned(), |version| version.to_string());
        self.versions.add(&version);
    }

    fn parties<'p>(&mut self, parties: impl IntoIterator<Item = &'p Party>) {
        parties.into_iter().for_each(|party| self.parties.add(party.as_str()));
    }

    fn current(&mut self, active: &ActiveContract) -> Result<(), Box<dyn std::error::Error>> {
        let contract = active.contract()?;
        self.forms.add("3.x");
        self.id(&contract.contract_id);
        self.templates.add(&contract.template.to_string());
        let package = active.representative_package().unwrap_or(&contract.template.package);
        self.packages.add(package.as_str());
        self.parties(&contract.stakeholders());
        self.synchronizers.add(active.synchronizer().as_str());
        self.reassigned =
            self.reassigned.saturating_add(u64::from(active.reassignment_counter() > 0));
        Ok(())
    }

    fn entry(&mut self, frame: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
        self.entries = self.entries.saturating_add(1);
        match Entry::decode(frame)? {
            Entry::Current(active) => self.current(&active)?,
            Entry::Old(old) => {
                self.forms.add("3.x, older endpoint");
                self.id(&old.contract_id);
                self.parties(old.signatories.union(&old.observers));
                self.synchronizers.add(&old.synchronizer);
            }
            Entry::Second(old) => {
                self.forms.add("2.x");
                self.id(&old.contract.contract_id);
                self.templates.add(&old.contract.template.to_string());
                self.packages.add(old.contract.template.package.as_str());
                self.parties(old.contract.signatories.union(&old.contract.observers));
                self.synchronizers.add(&old.synchronizer);
            }
        }
        Ok(())
    }
}

fn of_snapshot(path: &Path) -> Result<Looked, Diagnostic> {
    let mut entries = participant_file::entries(path)?;
    let mut contents = Contents::default();
    for frame in entries.by_ref() {
        let number = contents.entries.saturating_add(1);
        let frame = frame.map_err(|error| participant_file::entry_error(path, number, &error))?;
        contents.entry(&frame).map_err(|error| {
            let message = format!("entry {number} of {} is no contract", path.display());
            Diagnostic::new(Code::ParticipantFile, message).because(error.as_ref())
        })?;
    }
    let bytes = entries.offset();
    let rows = vec![
        ("contracts", contents.entries.to_string()),
        ("bytes", bytes.to_string()),
        ("moved before", contents.reassigned.to_string()),
    ];
    let json = json!({
        "contracts": contents.entries,
        "bytes": bytes,
        "reassigned": contents.reassigned,
    });
    let counts = vec![
        ("forms", contents.forms),
        ("versions", contents.versions),
        ("synchronizers", contents.synchronizers),
        ("packages", contents.packages),
        ("templates", contents.templates),
        ("parties", contents.parties),
    ];
    Ok(Looked { kind: "snapshot", rows, counts, json })
}

fn of_contract(contract: &FatContract) -> Looked {
    let json = view_file::contract(contract);
    Looked { kind: "contract", rows: rows(&json), counts: Vec::new(), json }
}

fn of_old_contract(contract: &OldContract) -> Looked {
    let json = view_file::old_contract(contract);
    Looked { kind: "contract of 2.x", rows: rows(&json), counts: Vec::new(), json }
}

fn of_transaction(signed: &SignedTransaction) -> Looked {
    let json = view_file::transaction(signed);
    Looked { kind: "topology transaction", rows: rows(&json), counts: Vec::new(), json }
}

fn of_package(package: &Package) -> Looked {
    let json = view_file::package(package);
    Looked { kind: "package", rows: rows(&json), counts: Vec::new(), json }
}

fn of_dar(dar: &Dar) -> Looked {
    let main = dar.main();
    let packages: Vec<Value> =
        dar.packages().iter().map(|package| view_file::package(package)).collect();
    let rows = vec![
        ("main package", main.id().to_string()),
        ("name", view_file::name(main)),
        ("Daml-LF", main.lf().to_string()),
        ("packages", packages.len().to_string()),
        ("templates", main.templates().len().to_string()),
    ];
    let mut templates = Counts::default();
    main.templates().for_each(|template| templates.add(&template.to_string()));
    let json = json!({ "main": main.id().to_string(), "packages": packages });
    Looked { kind: "packages (DAR)", rows, counts: vec![("templates", templates)], json }
}

fn of_party_map(map: &PartyMap) -> Looked {
    let (mut old, mut new) = (Counts::default(), Counts::default());
    for (from, to) in map.moves() {
        old.add(from.namespace().as_str());
        new.add(to.namespace().as_str());
    }
    let (parties, digest) = (map.len(), map.digest().to_string());
    let rows = vec![("parties", parties.to_string()), ("digest", digest.clone())];
    let json = json!({ "parties": parties, "digest": digest });
    let counts = vec![("old_namespaces", old), ("new_namespaces", new)];
    Looked { kind: "party map", rows, counts, json }
}

fn of_contract_map(path: &Path) -> Result<Looked, Diagnostic> {
    let failed = |error: heirloom_participant::contract_map::ContractMapError| {
        let message = format!("{} is not a contract map", path.display());
        Diagnostic::new(Code::ParticipantFile, message).because(&error)
    };
    let opened = std::fs::File::open(path).map_err(|error| file::failed("read", path, &error))?;
    let mut map = ContractMapReader::new(std::io::BufReader::new(opened)).map_err(failed)?;
    let (mut contracts, mut renamed) = (0_u64, 0_u64);
    while let Some((old, new)) = map.read().map_err(failed)? {
        contracts = contracts.saturating_add(1);
        renamed = renamed.saturating_add(u64::from(old != new));
    }
    let digest = map.digest().to_string();
    let json = json!({ "contracts": contracts, "renamed": renamed, "digest": digest });
    Ok(Looked { kind: "contract map", rows: rows(&json), counts: Vec::new(), json })
}

fn of_report(text: &str) -> Looked {
    let lines: Vec<&str> = text.lines().skip(1).take_while(|line| *line != "end").collect();
    let rows = vec![("findings", lines.len().to_string())];
    let json = json!({ "lines": lines, "whole": text.ends_with("\nend\n") });
    Looked { kind: "rewrite report", rows, counts: Vec::new(), json }
}

fn of_topology(items: &[Item]) -> Looked {
    let (mut mappings, mut parties) = (Counts::default(), Counts::default());
    let (mut proposals, mut signatures) = (0_u64, 0_usize);
    for Item { transaction: signed, .. } in items {
        mappings.add(view_file::mapping(signed.transaction.mapping()));
        proposals = proposals.saturating_add(u64::from(signed.proposal));
        let several = signed.multi_signatures.iter().map(|several| several.signatures.len());
        signatures = signatures
            .saturating_add(signed.signatures.len())
            .saturating_add(several.sum::<usize>());
        if let (Mapping::PartyToParticipant(hosted), Operation::AddReplace) =
            (signed.transaction.mapping(), signed.transaction.operation())
        {
            for host in &hosted.participants {
                parties.add(host.participant.as_str());
            }
        }
    }
    let json =
        json!({ "transactions": items.len(), "proposals": proposals, "signatures": signatures });
    let counts = vec![("mappings", mappings), ("hosting_participants", parties)];
    Looked { kind: "topology", rows: rows(&json), counts, json }
}

/// The fields of an object that are one line each.
fn rows(json: &Value) -> Vec<(&'static str, String)> {
    const SHOWN: [&str; 24] = [
        "contract_id",
        "version",
        "template",
        "package_name",
        "signatories",
        "observers",
        "created_at",
        "key",
        "id",
        "name",
        "lf",
        "upgrades",
        "templates",
        "operation",
        "serial",
        "mapping",
        "proposal",
        "hash",
        "signed_by",
        "transactions",
        "proposals",
        "signatures",
        "contracts",
        "renamed",
    ];
    let line = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            texts.join(", ")
        }
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    };
    let shown = SHOWN.into_iter().chain(["digest"]);
    shown.filter_map(|name| Some((name, line(json.get(name)?)))).collect()
}
