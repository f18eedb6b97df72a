//! What a figure is, and how it is said.

use std::io::Write as _;

use serde_json::json;

/// Which direction is better.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Better {
    /// A time: the floor is below.
    Less,
    /// A rate: the floor of the time is a ceiling of the rate.
    More,
}

/// One measured figure and what it is compared with.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The measurement that it is a part of.
    pub(crate) name: &'static str,
    /// What was measured.
    pub(crate) what: String,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// Which direction is better.
    pub(crate) better: Better,
    /// What was found.
    pub(crate) value: f64,
    /// What the same machine needs at least, measured in the same run.
    pub(crate) floor: Option<f64>,
    /// What was hoped for.
    pub(crate) target: Option<String>,
    /// What a reader must know about it.
    pub(crate) note: String,
}

impl Figure {
    /// How many times the floor it takes.
    fn ratio(&self) -> Option<f64> {
        let floor = self.floor?;
        Some(match self.better {
            Better::Less => self.value / floor,
            Better::More => floor / self.value,
        })
    }
}

/// Prints a figure as one line of JSON.
pub(crate) fn print(figure: &Figure) {
    let line = json!({
        "name": figure.name,
        "what": figure.what,
        "unit": figure.unit,
        "figure": figure.value,
        "floor": figure.floor,
        "ratio": figure.ratio(),
        "target": figure.target,
        "note": figure.note,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").expect("whoever started a measurement reads its figures");
}
