//! Rules with one mistake each: the error names the field, and nothing is appraised.

use crate::place::Place;

/// An example of the reference.
fn example(name: &str) -> String {
    let reference = include_str!("../../../../../docs/reference/inputs.md");
    let (_, rest) = reference.split_once(&format!("```toml {name}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// Each row changes one thing in an example, and says the code and what the error must name.
fn refuses(name: &str, rows: &[(&str, &str, &str, &str)]) {
    let (place, good) = (Place::new(), example(name));
    place.write("evidence", b"nothing");
    let words = format!(
        "evidence appraise evidence --anchor nowhere --rules rules.toml --report-data {}",
        "00".repeat(64)
    );
    let appraise = |rules: &str| {
        place.write("rules.toml", rules);
        let ended = place.run(&words);
        assert_eq!(ended.status.code(), Some(1));
        String::from_utf8(ended.stderr).unwrap()
    };
    let said = appraise(&good);
    assert!(said.contains("error[E-FILE-001]"), "the example itself is read: {said}");
    for (from, to, code, named) in rows {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from} is not in {name}");
        let said = appraise(&bad);
        assert!(said.contains(&format!("error[{code}]")), "{from} to {to}: {said}");
        assert!(said.contains(named), "{from} to {to} must name {named}: {said}");
    }
}

const MALFORMED: &str = "E-INPUT-001";
const VALUE: &str = "E-INPUT-002";
const TWICE: &str = "E-INPUT-003";
const MISSING: &str = "E-INPUT-005";

#[test]
fn a_rule_for_tdx_with_a_mistake_is_refused() {
    refuses(
        "rules-tdx",
        &[
            ("module = \"skip\"\n", "", MALFORMED, "module"),
            ("xfam = [", "xfam2 = [", MALFORMED, "xfam2"),
            ("[tdx]", "[tdy]", MALFORMED, "tdy"),
            ("module = \"skip\"", "module = \"any\"", VALUE, "appraisal.tdx.module"),
            ("module = \"skip\"", "module = [\"11\"]", VALUE, "appraisal.tdx.module"),
            ("0x10000000", "10000000", VALUE, "appraisal.tdx.attributes"),
            ("0x10000000", "0x+1", VALUE, "appraisal.tdx.attributes"),
            ("0x10000000", "0x10000000000000000", VALUE, "appraisal.tdx.attributes"),
            ("\"0xe7\"", "\"0x61ae7\"", TWICE, "appraisal.tdx.xfam"),
            ("[\"none\"]", "[\"nobody\"]", VALUE, "appraisal.tdx.service_td"),
        ],
    );
}

#[test]
fn a_rule_for_snp_with_a_mistake_is_refused() {
    refuses(
        "rules-snp",
        &[
            ("revocation = \"demanded\"\n", "", MALFORMED, "revocation"),
            ("fmc = 0, ", "", MALFORMED, "fmc"),
            ("microcode = 219", "microcode = 256", MALFORMED, "256"),
            ("\"milan\"", "\"naples\"", VALUE, "appraisal.snp.tcb_min.generation"),
            ("\"milan\"", "\"genoa\"", TWICE, "appraisal.snp.tcb_min"),
            ("[\"vcek\"]", "[\"vcek\", \"vcek\"]", TWICE, "appraisal.snp.keys"),
            ("[\"vcek\"]", "[\"vek\"]", VALUE, "appraisal.snp.keys"),
            ("smt = \"accepted\"", "smt = true", MALFORMED, "smt"),
            ("smt = \"accepted\"", "smt = \"skip\"", VALUE, "appraisal.snp.smt"),
            (
                "revocation = \"demanded\"",
                "revocation = \"skip\"",
                VALUE,
                "appraisal.snp.revocation",
            ),
            ("alias_check = \"demanded\"\n", "", MALFORMED, "alias_check"),
            (
                "alias_check = \"demanded\"",
                "alias_check = \"no\"",
                VALUE,
                "appraisal.snp.alias_check",
            ),
            ("unknown_info = \"0x0\"\n", "", MALFORMED, "unknown_info"),
            ("unknown_info = \"0x0\"", "unknown_info = \"0\"", VALUE, "appraisal.snp.unknown_info"),
            ("tcb_grace = []\n", "", MALFORMED, "tcb_grace"),
            (
                "tcb_grace = []",
                "tcb_grace = [{ level = \"revoked\", until = \"2027-01-01\" }]",
                VALUE,
                "appraisal.tcb_grace.level",
            ),
            (
                "tcb_grace = []",
                "tcb_grace = [{ level = \"out-of-date\" }]",
                VALUE,
                "appraisal.tcb_grace",
            ),
        ],
    );
}

#[test]
fn a_rule_for_nitro_with_a_mistake_is_refused() {
    refuses(
        "rules-nitro",
        &[
            ("pcr4 = \"skip\"\n", "", MALFORMED, "pcr4"),
            ("pcr4 = \"skip\"", "pcr4 = \"none\"", VALUE, "appraisal.nitro.pcr4"),
            ("pcr8 = [\"none\"]", "pcr0 = [\"none\"]", MALFORMED, "pcr0"),
        ],
    );
}

#[test]
fn a_rule_that_forgets_a_register_or_says_it_twice_is_refused() {
    refuses(
        "rules-tpm",
        &[
            ("authorities = [", "# [", MALFORMED, "authorities"),
            ("revocation = \"demanded\"\n", "", MALFORMED, "revocation"),
            ("\"demanded\"", "\"skip\"", VALUE, "appraisal.tpm.revocation"),
            ("authorities = [", "authorities = [\"1\", ", VALUE, "appraisal.tpm.authorities"),
            ("8-15 = \"skip\"", "8-14 = \"skip\"", MISSING, "PCR 15"),
            ("8-15 = \"skip\"", "7-15 = \"skip\"", TWICE, "appraisal.tpm.pcr"),
            ("8-15 = \"skip\"", "8-16 = \"skip\"", VALUE, "appraisal.tpm.pcr.8-16"),
            ("8-15 = \"skip\"", "15-8 = \"skip\"", VALUE, "appraisal.tpm.pcr.15-8"),
            ("8-15 = \"skip\"", "x = \"skip\"", VALUE, "appraisal.tpm.pcr.x"),
            ("8-15 = \"skip\"", "8-15 = [\"00\"]", VALUE, "appraisal.tpm.pcr.8-15"),
            ("5-6 = \"skip\"", "5-6 = \"none\"", VALUE, "appraisal.tpm.pcr.5-6"),
            ("0 = [", "0 = [\"1\", ", VALUE, "appraisal.tpm.pcr.0"),
        ],
    );
    refuses(
        "rules-vtpm",
        &[
            ("measured = [4, 9, 11]\n", "", MALFORMED, "measured"),
            ("[4, 9, 11]", "[4, 9]", MISSING, "PCR 11"),
            ("[4, 9, 11]", "[4, 9, 11, 12]", TWICE, "PCR 12"),
            ("[4, 9, 11]", "[4, 9, 9, 11]", TWICE, "appraisal.vtpm.measured"),
        ],
    );
}

#[test]
fn an_advisory_is_accepted_until_a_day() {
    refuses(
        "rules",
        &[
            (", until = \"2099-01-01\"", "", MALFORMED, "until"),
            ("2099-01-01", "2099-13-01", VALUE, "appraisal.advisories_accepted.until"),
        ],
    );
}
