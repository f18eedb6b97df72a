//! The one error of the command line: fault, stable code, message, causes, hints, exit code.

use std::error::Error;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::code::Code;
use crate::exit::Exit;

/// What happened, why, and what to do.
#[derive(Debug)]
pub(crate) struct Diagnostic {
    code: Code,
    /// The stable word of the crate that refused, if there is one.
    reason: Option<String>,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
    /// Whether the hints stand in place of what the code always says.
    is_special: bool,
}

/// Causes of one error that are printed. Chains have three or four.
const CAUSES_MAX: usize = 16;

impl Diagnostic {
    /// Says what happened.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        let (causes, hints) = (Vec::new(), Vec::new());
        Self { code, reason: None, message, causes, hints, is_special: false }
    }

    /// An error that another process of ours wrote as JSON.
    pub(crate) fn from_json(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let code = Code::ALL.iter().find(|code| code.text() == text("code"));
        let mut error = Self::new(code.copied().unwrap_or(Code::PlatformFailed), text("message"));
        let causes = value.get("causes").and_then(Value::as_array);
        let causes = causes.into_iter().flatten().take(CAUSES_MAX);
        error.causes = causes.filter_map(Value::as_str).map(str::to_owned).collect();
        error.reason = value.get("reason").and_then(Value::as_str).map(str::to_owned);
        error
    }

    /// Says why: an error and everything behind it.
    #[must_use]
    pub(crate) fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next.filter(|_| self.causes.len() < CAUSES_MAX) {
            self.causes.push(cause.to_string().trim_end().to_owned());
            next = cause.source();
        }
        self
    }

    /// Says why, in words.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Names the stable word of the crate that refused.
    #[must_use]
    pub(crate) fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Says what to do, before what the code always says.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says what to do where what the code always says does not help.
    #[must_use]
    pub(crate) fn instead(mut self, remedy: impl Into<String>) -> Self {
        self.hints.push(remedy.into());
        self.is_special = true;
        self
    }

    /// What to do, most special first.
    fn advice(&self) -> impl Iterator<Item = &str> {
        let always = (!self.is_special).then(|| self.code.remedy());
        self.hints.iter().map(String::as_str).chain(always)
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.code.fault().exit()
    }

    /// Whether trying again may help.
    pub(crate) fn is_transient(&self) -> bool {
        self.exit() == Exit::Incomplete
    }

    /// As text, with colours; the printer removes them where they do not belong.
    pub(crate) fn text(&self) -> String {
        let (error, hint) = (crate::output::theme::ERROR, crate::output::theme::HINT);
        let code = self.code.text();
        let mut text = format!("{error}error[{code}]{error:#}: {}\n", self.message);
        for cause in &self.causes {
            writeln!(text, "  because: {cause}").expect("writing into memory cannot fail");
        }
        if let Some(reason) = &self.reason {
            writeln!(text, "  reason: {reason}").expect("writing into memory cannot fail");
        }
        for line in self.advice() {
            writeln!(text, "  {hint}hint{hint:#}: {line}")
                .expect("writing into memory cannot fail");
        }
        text
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let hints: Vec<&str> = self.advice().collect();
        json!({
            "schema": "heirloom.error.v1",
            "code": self.code.text(),
            "fault": self.code.fault().name(),
            "exit": self.exit().code(),
            "message": self.message,
            "reason": self.reason,
            "causes": self.causes,
            "hints": hints,
        })
    }
}
