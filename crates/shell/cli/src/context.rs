//! What every command gets besides its arguments.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::cli::Global;
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::output::Output;

/// What every command gets besides its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) output: Output,
    may_ask: bool,
}

impl Context {
    /// From the global arguments.
    pub(crate) fn new(global: Global) -> Self {
        let may_ask = !global.no_input && io::stdin().is_terminal() && io::stderr().is_terminal();
        Self { output: Output::new(global.json, global.color), may_ask }
    }

    /// Refuses if there is no person who could be asked: for what nobody may begin by accident.
    /// `flag` is the argument that says yes beforehand.
    pub(crate) fn expect_person(self, flag: &str) -> Result<(), Diagnostic> {
        if self.may_ask {
            return Ok(());
        }
        let message = format!("nobody can be asked here, and {flag} was not given");
        Err(Diagnostic::new(Code::InputMissing, message)
            .hint(format!("give {flag} if you know what this begins; nothing was done")))
    }

    /// Asks a person to type a word that names what will happen. Without a person there is no
    /// question: the command line named it already.
    pub(crate) fn confirm(self, what: &str, word: &str) -> Result<(), Diagnostic> {
        if !self.may_ask {
            return Ok(());
        }
        let mut prompt = anstream::stderr().lock();
        let asked = write!(prompt, "{what}\nType {word} to go on: ").and_then(|()| prompt.flush());
        drop(prompt);
        let mut line = String::new();
        let read = asked.and_then(|()| io::stdin().lock().read_line(&mut line));
        if read.is_ok() && line.trim() == word {
            return Ok(());
        }
        let message = "not confirmed; nothing was done";
        Err(Diagnostic::new(Code::Interrupted, message))
    }
}
