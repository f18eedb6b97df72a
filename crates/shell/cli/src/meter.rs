//! How far a long run over a file is: bytes and their rate on a terminal, one line for each pass
//! otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use heirloom_snapshot::progress::{Advance, Cancel, Pass, Progress};
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, Output};
use crate::time;

/// Hears how far a run is, and stops it when somebody pressed Ctrl-C.
pub(crate) struct Meter {
    bar: Option<ProgressBar>,
    /// How many bytes a pass reads, once that is known.
    total: Option<u64>,
    latest: Option<(Advance, Instant)>,
    stopping: Arc<AtomicBool>,
    cancel: Cancel,
}

impl Meter {
    /// Listens for a run that `cancel` stops.
    pub(crate) fn new(
        output: Output,
        total: Option<u64>,
        stopping: &Arc<AtomicBool>,
        cancel: &Cancel,
    ) -> Self {
        let bar = output.is_interactive().then(|| {
            let target = ProgressDrawTarget::stderr();
            ProgressBar::with_draw_target(total, target).with_style(style(total))
        });
        Self { bar, total, latest: None, stopping: Arc::clone(stopping), cancel: cancel.clone() }
    }

    /// What the last pass came to.
    fn passed(&self) {
        let Some((advance, begun)) = self.latest.filter(|_| self.bar.is_none()) else { return };
        let seconds = begun.elapsed().as_secs_f64();
        output::event(&format!(
            "{} {}: {} contracts, {} in {seconds:.1} s",
            time::show(time::now()),
            name(advance.pass),
            advance.contracts,
            BinaryBytes(advance.bytes),
        ));
    }
}

impl Progress for Meter {
    fn advanced(&mut self, advance: Advance) {
        if self.stopping.load(Ordering::Relaxed) {
            self.cancel.cancel();
        }
        let begun = match self.latest {
            Some((latest, begun)) if latest.pass == advance.pass => begun,
            _ => {
                self.passed();
                if let Some(bar) = &self.bar {
                    bar.reset();
                    bar.set_style(style(self.total));
                    bar.set_message(name(advance.pass));
                }
                Instant::now()
            }
        };
        self.latest = Some((advance, begun));
        if let Some(bar) = &self.bar {
            bar.set_position(advance.bytes);
        }
    }
}

impl Drop for Meter {
    /// Leaves the terminal as it was.
    fn drop(&mut self) {
        self.passed();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(total: Option<u64>) -> ProgressStyle {
    let template = match total {
        Some(_) => "{bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {wide_msg}",
        None => "{spinner} {binary_bytes} {binary_bytes_per_sec} {wide_msg}",
    };
    ProgressStyle::with_template(template)
        .expect("the template is well-formed")
        .progress_chars("=> ")
}

/// What a pass does, for people.
fn name(pass: Pass) -> &'static str {
    match pass {
        Pass::Verify => "verifying",
        Pass::Gather => "gathering what others refer to",
        Pass::Order => "computing new ids",
        Pass::Rewrite => "rewriting",
        Pass::VerifyAfter => "verifying what was written",
        Pass::Invert => "checking the way back",
    }
}
