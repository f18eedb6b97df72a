//! Progress: a bar on a terminal, one line per event otherwise. Always on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, Output};
use crate::time;

/// Shows how far something has come.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    /// Shows progress as the terminal allows.
    pub(crate) fn new(output: Output) -> Self {
        let bar = output.is_interactive().then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}")
                .expect("the template is well-formed")
                .progress_chars("=> ");
            let target = ProgressDrawTarget::stderr();
            ProgressBar::with_draw_target(Some(0), target).with_style(style)
        });
        Self { bar, last: String::new() }
    }

    /// `done` of `total` are done, and this is what happens or what is awaited.
    pub(crate) fn show(&mut self, done: usize, total: usize, message: &str) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        match &self.bar {
            Some(bar) => {
                bar.set_length(number(total));
                bar.set_position(number(done));
                bar.set_message(message.to_owned());
            }
            None if self.last != message => {
                self.event(&format!("{done}/{total} {message}"));
                message.clone_into(&mut self.last);
            }
            None => {}
        }
    }

    /// One thing that happened, with the time.
    pub(crate) fn event(&self, event: &str) {
        let line = format!("{} {event}", time::show(time::now()));
        match &self.bar {
            Some(bar) => bar.println(line),
            None => output::event(&line),
        }
    }

    /// Leaves the terminal as it was.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
