//! Every fuzz target behind libFuzzer. Two variables of the environment say what to do:
//! `HEIRLOOM_FUZZ_TARGET` names the target (without it all names are printed), and
//! `HEIRLOOM_FUZZ_STARTS` a folder into which its starts are written first.

#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use heirloom_fuzz::target::{CANTON, EVIDENCE, Target, find};

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fn prepare() {
    let Ok(name) = std::env::var("HEIRLOOM_FUZZ_TARGET") else {
        EVIDENCE.iter().chain(CANTON).for_each(|target| println!("{}", target.name));
        std::process::exit(0);
    };
    let target = find(&name).expect("HEIRLOOM_FUZZ_TARGET names a target");
    CHOSEN.get_or_init(|| target);
    if let Some(folder) = std::env::var_os("HEIRLOOM_FUZZ_STARTS") {
        for (index, start) in (target.starts)().iter().enumerate() {
            let file = Path::new(&folder).join(format!("start-{index}"));
            std::fs::write(file, start).expect("a start can be written");
        }
    }
}

libfuzzer_sys::fuzz_target!(init: prepare(), |data: &[u8]| {
    let target = CHOSEN.get().expect("libFuzzer prepares first");
    (target.run)(data);
});
