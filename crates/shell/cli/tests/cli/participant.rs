//! Files of participants: looked at, verified, mapped, rewritten. Nothing is overwritten, nothing
//! is left half.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heirloom_testkit::vectors;
use serde_json::Value;

use crate::contracts::{NEW, OLD, OTHER, chain, compress, package, snapshot};
use crate::world::{self, Place};

/// A snapshot of five contracts, its package, and a map of its parties.
fn place() -> Place {
    let place = Place::new();
    place.write("acs.gz", &snapshot(&chain(5)));
    place.write("iou.dar", &package().bytes);
    place.ok(&format!("{CREATE} --namespace {NEW} --out map"));
    place
}

const CREATE: &str = "participant map create --snapshot acs.gz --source \
                      node::1220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const REWRITE: &str = "participant rewrite acs.gz --map map --dar iou.dar --out new.gz";

fn named(list: &Value, name: &str) -> Option<u64> {
    let found = list["listed"].as_array().unwrap().iter().find(|entry| entry["name"] == name);
    found.and_then(|entry| entry["count"].as_u64())
}

#[test]
fn each_kind_of_file_is_told_by_its_bytes() {
    let place = place();
    place.ok(REWRITE);
    let contract = chain(1).remove(0);
    place.write("blob", &contract.encode());
    place.write("blob.hex", hex::encode(contract.encode()).as_bytes());
    place.write("blob.txt", format!("{}\n", STANDARD.encode(contract.encode())).as_bytes());
    place.write("iou.dalf", &package().archive);
    let kinds = [
        ("acs.gz", "snapshot"),
        ("iou.dar", "packages (DAR)"),
        ("iou.dalf", "package"),
        ("map", "party map"),
        ("new.gz.contracts", "contract map"),
        ("new.gz.report", "rewrite report"),
        ("blob", "contract"),
        ("blob.hex", "contract"),
        ("blob.txt", "contract"),
    ];
    let files: Vec<&str> = kinds.iter().map(|(file, _)| *file).collect();
    let json = place.json(&format!("participant inspect {}", files.join(" ")));
    assert_eq!(json["schema"], "heirloom.participant.inspect.v1");
    for (index, (file, kind)) in kinds.iter().enumerate() {
        assert_eq!(json["files"][index]["file"], *file);
        assert_eq!(json["files"][index]["kind"], *kind, "{file}");
    }
    assert_eq!(json["files"][6]["contract_id"], contract.contract_id.to_string());
    assert_eq!(json["files"][3]["parties"], 3);
    assert_eq!(json["files"][4]["renamed"], 5);
}

#[test]
fn what_a_snapshot_has_is_counted() {
    let place = place();
    let json = place.json("participant inspect acs.gz");
    let file = &json["files"][0];
    assert_eq!(file["contracts"], 5);
    assert_eq!(named(&file["versions"], "V12"), Some(5));
    assert_eq!(named(&file["forms"], "3.x"), Some(5));
    assert_eq!(named(&file["parties"], &format!("issuer::{OLD}")), Some(5));
    assert_eq!(named(&file["parties"], &format!("holder-0::{OLD}")), Some(3));
    assert_eq!(named(&file["parties"], &format!("bank::{OTHER}")), Some(5));
    assert_eq!(named(&file["packages"], package().main.as_str()), Some(5));
    assert_eq!(named(&file["synchronizers"], &format!("sync::{OTHER}")), Some(5));
    let said = place.ok("participant inspect acs.gz");
    for expected in ["contracts     5\n", "count  parties\n", "5      issuer::1220"] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn a_snapshot_is_verified_and_its_digest_shown() {
    let place = place();
    let json = place.json("participant verify acs.gz --dar iou.dar");
    assert_eq!(json["schema"], "heirloom.participant.verify.v1");
    assert_eq!(json["contracts"], 5);
    assert_eq!(json["references"]["inside"], 4);
    assert_eq!(json["references"]["outside"], 0);
    assert_eq!(json["digest"].as_str().unwrap().len(), 64);
    let one = place.json("participant verify acs.gz --dar iou.dar --threads 1 --scratch .");
    assert_eq!(one, json);
    let said = place.ok("participant verify acs.gz --dar iou.dar");
    assert!(said.contains("5, each is what its id says"), "{said}");
}

#[test]
fn the_one_contract_that_was_changed_is_named() {
    let place = place();
    let mut contracts = chain(5);
    let heirloom_canton::value::Value::Record(fields) = &mut contracts[2].create_arg else {
        panic!("a record")
    };
    fields[1] = heirloom_canton::value::Value::Int64(1_000_000);
    place.write("changed.gz", &snapshot(&contracts));
    let words = "participant verify changed.gz --dar iou.dar";
    let said = place.fails(words, 3, "E-PARTICIPANT-004");
    assert!(said.contains("contract number 3 at byte"), "{said}");
    assert!(said.contains(&contracts[2].contract_id.to_string()), "{said}");
    let rewrite = REWRITE.replace("acs.gz", "changed.gz");
    place.fails(&rewrite, 3, "E-PARTICIPANT-004");
}

#[test]
fn a_package_that_is_missing_is_named() {
    let place = place();
    let said = place.fails("participant verify acs.gz", 3, "E-PARTICIPANT-005");
    assert!(said.contains(package().main.as_str()), "{said}");
    assert!(said.contains("--dar"), "{said}");
}

#[test]
fn a_snapshot_that_was_cut_is_refused_by_every_verb() {
    let place = place();
    let whole = place.read("acs.gz");
    let verbs = [
        "participant inspect cut.gz".to_owned(),
        "participant verify cut.gz --dar iou.dar".to_owned(),
        REWRITE.replace("acs.gz", "cut.gz"),
        CREATE.replace("acs.gz", "cut.gz") + &format!(" --namespace {NEW}"),
    ];
    for length in [12, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        place.write("cut.gz", &whole[..length]);
        for verb in &verbs {
            place.fails(verb, 1, "E-PARTICIPANT-002");
        }
    }
    let mut damaged = whole.clone();
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 1;
    place.write("cut.gz", &damaged);
    for verb in &verbs {
        place.fails(verb, 1, "E-PARTICIPANT-003");
    }
    place.write("cut.gz", &compress(b"\x05hello"));
    for verb in &verbs {
        place.fails(verb, 1, "E-PARTICIPANT-001");
    }
}

#[test]
fn foreign_files_are_refused() {
    let place = place();
    place.write("text", b"some text that is nothing\n");
    place.write("empty", b"");
    place.write("zip", b"PK\x03\x04 and no more");
    for file in ["text", "empty", "zip"] {
        place.fails(&format!("participant inspect {file}"), 1, "E-PARTICIPANT-001");
        place.fails(&format!("participant verify {file}"), 1, "E-PARTICIPANT-001");
        place.fails(&format!("participant map show {file}"), 1, "E-PARTICIPANT-001");
        place.fails(&REWRITE.replace("iou.dar", file), 1, "E-PARTICIPANT-001");
        place.fails(
            &REWRITE.replace("--map map", &format!("--map {file}")),
            1,
            "E-PARTICIPANT-001",
        );
    }
    for file in ["iou.dar", "map"] {
        place.fails(&format!("participant verify {file}"), 1, "E-PARTICIPANT-001");
    }
    place.fails("participant inspect missing", 1, "E-FILE-001");
    place.fails("participant verify missing", 1, "E-FILE-001");
}

#[test]
fn a_map_is_made_shown_inverted_and_united() {
    let place = place();
    let map = String::from_utf8(place.read("map")).unwrap();
    let expected = format!(
        "heirloom party map 1\n\
         holder-0::{OLD} -> holder-0::{NEW}\n\
         holder-1::{OLD} -> holder-1::{NEW}\n\
         issuer::{OLD} -> issuer::{NEW}\n\
         end 3\n"
    );
    assert_eq!(map, expected);
    let shown = place.json("participant map show map");
    assert_eq!(shown["moves"][2]["to"], format!("issuer::{NEW}"));
    let digest = place.ok("participant map digest map");
    assert_eq!(digest.trim(), shown["map"].as_str().unwrap());
    place.ok("participant map invert map --out back");
    let back = place.ok("participant map invert back");
    assert_eq!(back, map);
    let source = format!("--source node::{OLD}");
    let party = format!("--party new-customer::{OLD} --namespace {NEW}");
    place.write("more", place.ok(&format!("participant map create {source} {party}")).as_bytes());
    let both = place.json("participant map union map more --out both");
    assert_eq!(both["parties"], 4);
    assert_ne!(both["map"], shown["map"]);
    place.fails("participant map union map back", 3, "E-PARTICIPANT-007");
}

#[test]
fn a_map_of_a_key_is_the_map_of_its_fingerprint() {
    let place = place();
    let Some(path) = vectors::find("canton/fingerprints.json") else {
        eprintln!("skipped: no vectors of fingerprints");
        return;
    };
    let keys: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = keys.to_string();
    assert!(text.contains("1220"), "{text}");
    let mut seen = 0;
    for key in keys
        .as_object()
        .into_iter()
        .flat_map(|all| all.values())
        .flat_map(|all| all.as_array().cloned().unwrap_or_default())
    {
        let (Some(der), Some(fingerprint)) = (
            key["public_key_hex"].as_str().and_then(|text| hex::decode(text).ok()),
            key["fingerprint"].as_str(),
        ) else {
            continue;
        };
        if der.len() == 32 {
            continue;
        }
        place.write("key.der", &der);
        let made = place.ok(&format!("{CREATE} --namespace-key key.der"));
        assert!(made.contains(&format!("-> issuer::{fingerprint}\n")), "{fingerprint}\n{made}");
        seen += 1;
    }
    assert!(seen > 0, "some keys have X.509 form");
}

#[test]
fn maps_that_are_not_possible_are_refused() {
    let place = place();
    place.fails(&format!("{CREATE} --namespace {OLD}"), 3, "E-PARTICIPANT-007");
    let foreign = format!("{CREATE} --party bank::{OTHER} --namespace {NEW}");
    let said = place.fails(&foreign, 3, "E-PARTICIPANT-007");
    assert!(said.contains(&format!("--external \"bank::{OTHER}\"")), "{said}");
    let stays = format!("{foreign} --external bank::{OTHER} --out stays");
    assert_eq!(place.json(&stays)["parties"], 3);
    place.write("no.der", b"no key at all");
    place.fails(&format!("{CREATE} --namespace-key no.der"), 1, "E-INPUT-002");
    let map = String::from_utf8(place.read("map")).unwrap();
    for (from, to, exit, code) in [
        ("end 3", "end 4", 1, "E-PARTICIPANT-001"),
        ("map 1", "map 2", 1, "E-PARTICIPANT-001"),
        ("-> issuer", "-> holder-0", 3, "E-PARTICIPANT-007"),
    ] {
        place.write("bad", map.replace(from, to).as_bytes());
        place.fails("participant map show bad", exit, code);
        place.fails(&REWRITE.replace("--map map", "--map bad"), exit, code);
    }
}

#[test]
fn a_map_that_moves_nobody_is_refused() {
    let place = place();
    let source = format!("--source node::1220{}", "d".repeat(64));
    let words = format!("participant map create --snapshot acs.gz {source} --namespace {NEW}");
    let said = place.fails(&format!("{words} --out nobody"), 3, "E-PARTICIPANT-007");
    assert!(said.contains("no party of its namespace was found"), "{said}");
    assert!(!place.path("nobody").exists());
    let own = format!("--source node::{OLD} --party node::{OLD}");
    let words = format!("participant map create {own} --namespace {NEW}");
    let said = place.fails(&words, 3, "E-PARTICIPANT-007");
    assert!(said.contains("keep their names"), "{said}");
}

#[test]
fn packages_in_the_place_of_a_snapshot_are_told_where_they_belong() {
    let place = place();
    let create = format!("{CREATE} --namespace {NEW}").replace("acs.gz", "iou.dar");
    let rewrite = REWRITE.replace("acs.gz", "iou.dar");
    for words in [create.as_str(), "participant verify iou.dar --dar iou.dar", &rewrite] {
        let ended = place.run(words);
        assert_eq!(ended.exit, 1, "{words}\n{}", ended.err);
        assert!(ended.err.contains("give it with --dar"), "{words}\n{}", ended.err);
    }
}

#[test]
fn nobody_migrates_by_accident() {
    // Not even the configuration is read before.
    let said = Place::new().fails("participant migrate --config absent", 1, "E-INPUT-005");
    assert!(said.contains("--yes"), "{said}");
}

#[test]
fn wrong_flags_are_usage_errors() {
    let place = place();
    for (words, expected) in [
        ("participant".to_owned(), "Usage"),
        ("participant inspect".to_owned(), "<FILE>"),
        ("participant verify".to_owned(), "<FILE>"),
        (CREATE.to_owned(), "--namespace"),
        (format!("participant map create --source node::{OLD} --namespace {NEW}"), "--party"),
        (format!("{CREATE} --namespace {NEW} --namespace-key map"), "cannot be used with"),
        ("participant map create --source nobody --party a::1 --namespace 1".to_owned(), "nobody"),
        ("participant rewrite acs.gz --map map".to_owned(), "--out"),
        (format!("{REWRITE} --synchronizer a::1"), "OLD=NEW"),
        (format!("{REWRITE} --threads 0"), "0"),
        ("participant rewrit".to_owned(), "rewrite"),
    ] {
        let ended = place.run(&words);
        assert_eq!(ended.exit, 2, "{words}\n{}", ended.err);
        assert!(ended.err.contains(expected), "{words}\n{}", ended.err);
    }
    let twice = format!("--synchronizer s::{OLD}=t::{OLD} --synchronizer s::{OLD}=u::{OLD}");
    place.fails(&format!("{REWRITE} {twice}"), 1, "E-INPUT-003");
    let merged = format!("--synchronizer s::{OLD}=t::{OLD} --synchronizer u::{OLD}=t::{OLD}");
    place.fails(&format!("{REWRITE} {merged}"), 3, "E-PARTICIPANT-008");
    place.fails(&format!("{REWRITE} --report new.gz"), 1, "E-INPUT-003");
}

#[test]
fn a_snapshot_is_rewritten_and_the_way_back_gives_the_same_bytes() {
    let place = place();
    let json = place.json(&format!("{REWRITE} --synchronizer sync::{OTHER}=other::{OTHER}"));
    assert_eq!(json["schema"], "heirloom.participant.rewrite.v1");
    assert_eq!(json["target"]["contracts"], 5);
    assert_eq!(json["report"]["renamed"], 5);
    assert_eq!(json["report"]["texts_moved"], 5);
    assert_eq!(json["report"]["references"]["inside"], 4);
    let verified = place.json("participant verify new.gz --dar iou.dar");
    assert_eq!(verified["digest"], json["target"]["digest"]);
    assert_eq!(verified["ids"], json["target"]["ids"]);
    let shown = place.json("participant inspect new.gz");
    let file = &shown["files"][0];
    assert_eq!(named(&file["parties"], &format!("issuer::{NEW}")), Some(5));
    assert_eq!(named(&file["parties"], &format!("issuer::{OLD}")), None);
    assert_eq!(named(&file["synchronizers"], &format!("other::{OTHER}")), Some(5));
    let files: Vec<String> = std::fs::read_dir(place.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(files.iter().all(|name| !name.starts_with('.')), "{files:?}");
    place.ok("participant map invert map --out back");
    let back = format!("--synchronizer other::{OTHER}=sync::{OTHER}");
    let words = "participant rewrite new.gz --map back --dar iou.dar --out old.gz";
    let inverse = place.json(&format!("{words} {back} --threads 1"));
    assert_eq!(inverse["target"]["digest"], json["source"]["digest"]);
    let mut bytes = [Vec::new(), Vec::new()];
    for (name, bytes) in ["acs.gz", "old.gz"].iter().zip(&mut bytes) {
        let file = place.read(name);
        flate2::read::MultiGzDecoder::new(file.as_slice()).read_to_end(bytes).unwrap();
    }
    assert_eq!(bytes[0], bytes[1]);
}

#[test]
fn nothing_is_overwritten_by_a_rewrite() {
    let place = place();
    for taken in ["new.gz", "new.gz.contracts", "new.gz.report"] {
        place.write(taken, b"somebody's");
        place.fails(REWRITE, 1, "E-FILE-004");
        std::fs::remove_file(place.path(taken)).unwrap();
    }
    place.fails(&REWRITE.replace("new.gz", "acs.gz"), 1, "E-FILE-004");
    place.ok(REWRITE);
    place.fails(REWRITE, 1, "E-FILE-004");
    place.fails(&format!("{CREATE} --namespace {NEW} --out map"), 1, "E-FILE-004");
    place.fails("participant map invert map --out map", 1, "E-FILE-004");
}

#[test]
fn without_a_terminal_progress_is_a_line_for_each_pass() {
    let place = place();
    let ended = place.run(REWRITE);
    assert_eq!(ended.exit, 0);
    for pass in ["verifying", "rewriting", "verifying what was written", "checking the way back"] {
        assert!(ended.err.contains(&format!(" {pass}: 5 contracts, ")), "{pass}\n{}", ended.err);
    }
}

#[test]
fn ctrl_c_leaves_nothing() {
    let place = place();
    // The snapshot comes through a pipe that stays open: the run waits in its first pass.
    let pipe = place.path("pipe.gz");
    let made = Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|made| made.success()) {
        eprintln!("skipped: no mkfifo here");
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_heirloom"));
    let words = REWRITE.replace("acs.gz", "pipe.gz").replace("--dar iou.dar", "");
    command.args(words.split_whitespace()).current_dir(place.path(""));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = world::start(&mut command);
    // Opening succeeds once the program reads.
    let writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    drop(writer);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.signal(), None);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_ne!(ended.status.code(), Some(0), "{said}");
    for name in ["new.gz", "new.gz.contracts", "new.gz.report", ".new.gz.unverified"] {
        assert!(!place.path(name).exists(), "{name}");
    }
}

#[test]
fn real_contracts_and_topology_are_read() {
    let Some(acs) = vectors::find("canton/acs/constructed-3x-acs.gz") else {
        eprintln!("skipped: no vectors of snapshots");
        return;
    };
    let place = Place::new();
    place.write("acs.gz", &std::fs::read(acs).unwrap());
    let shown = place.json("participant inspect acs.gz");
    assert_eq!(shown["files"][0]["contracts"], 7);
    let said = place.fails("participant verify acs.gz", 3, "E-PARTICIPANT-005");
    assert!(said.contains("package"), "{said}");
    let topology = vectors::find("canton/topology_transactions.json").unwrap();
    let topology: Value = serde_json::from_slice(&std::fs::read(topology).unwrap()).unwrap();
    let first = &topology["transactions"][0]["signed_topology_transaction_versioned_hex"];
    place.write("one", first.as_str().unwrap().as_bytes());
    let shown = place.json("participant inspect one");
    assert_eq!(shown["files"][0]["kind"], "topology transaction");
    // Its key is introduced elsewhere: nobody can say that the signature is right.
    place.fails("participant verify one", 3, "E-PARTICIPANT-011");
    let mut verified = 0;
    for transaction in topology["transactions"].as_array().unwrap() {
        let hex = transaction["signed_topology_transaction_versioned_hex"].as_str().unwrap();
        place.write("one", hex.as_bytes());
        verified += u32::from(place.run("participant verify one").exit == 0);
    }
    assert!(verified > 0, "some transactions introduce their own keys");
}
