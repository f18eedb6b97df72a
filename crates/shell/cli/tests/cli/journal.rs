//! Journals are shown, verified and exported offline.

use heirloom_model::counter::{PlanNumber, Time};
use heirloom_model::digest::PlanDigest;
use heirloom_model::plan::{StepId, StepOutcome};
use heirloom_model::wire;
use heirloom_store::journal_file::JournalFile;
use heirloom_upgrade::journal::{Progress, Record};

use crate::world::Place;

/// A journal of one adopted plan with one step done and one under way. Returns its head.
pub(crate) fn journal(place: &Place) -> String {
    let mut file = JournalFile::create(&place.path("journal")).unwrap();
    let mut progress = Progress::default();
    for record in [
        Record::Adopted { plan: PlanDigest::new([1; 32]), number: PlanNumber(1) },
        Record::Started(StepId(0)),
        Record::Succeeded(StepId(0), StepOutcome::Done),
        Record::Started(StepId(4)),
    ] {
        let entry = progress.entry(record, Time(1_795_132_800));
        progress.apply(&entry).unwrap();
        file.append(&wire::encode(&entry)).unwrap();
    }
    progress.head().to_string()
}

#[test]
fn a_whole_journal_is_shown_verified_and_exported() {
    let place = Place::new();
    let head = journal(&place);
    let shown = place.ok("journal show journal");
    assert!(shown.contains("step 0 done"), "{shown}");
    let verified = place.json("journal verify journal");
    assert_eq!(verified["head"], head);
    assert_eq!(verified["interrupted"], 1);
    place.ok(&format!("journal verify journal --contains {head}"));
    let lines: Vec<serde_json::Value> = place
        .ok("journal export journal")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[2]["outcome"], "done");
    assert_eq!(lines[3]["hash"], head);
}

#[test]
fn a_journal_whose_end_was_cut_off_is_noticed_by_whoever_saw_the_end() {
    let place = Place::new();
    let head = journal(&place);
    let record = JournalFile::inspect(&place.path("journal")).unwrap();
    let mut shorter = JournalFile::create(&place.path("shorter")).unwrap();
    for record in &record[..3] {
        shorter.append(record).unwrap();
    }
    drop(shorter);
    place.ok("journal verify shorter");
    place.fails(&format!("journal verify shorter --contains {head}"), 5, "E-JOURNAL-001");
}

#[test]
fn records_that_no_agent_can_have_written_are_corruption() {
    let place = Place::new();
    let mut file = JournalFile::create(&place.path("journal")).unwrap();
    let entry = Progress::default().entry(Record::Started(StepId(0)), Time(0));
    file.append(&wire::encode(&entry)).unwrap();
    drop(file);
    let said = place.fails("journal show journal", 5, "E-JOURNAL-001");
    assert!(said.contains("cannot follow what stands before it"), "{said}");
}

#[test]
fn a_journal_that_ends_within_a_record_is_not_taken_for_a_shorter_one() {
    let place = Place::new();
    journal(&place);
    let whole = std::fs::read(place.path("journal")).unwrap();
    std::fs::write(place.path("cut"), &whole[..whole.len() - 5]).unwrap();
    for verb in ["verify", "show", "export"] {
        let said = place.fails(&format!("journal {verb} cut"), 4, "E-JOURNAL-002");
        assert!(said.contains("never finished"), "{said}");
    }
    assert_eq!(std::fs::read(place.path("cut")).unwrap(), whole[..whole.len() - 5]);
}
