//! Exit codes: one enum, one table.

/// What the exit code of the command says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    Refused,
    Incomplete,
    Corrupt,
    Interrupted,
}

impl Exit {
    /// Every exit code, in order. Rust's own 101 means a bug.
    pub(crate) const ALL: [Self; 7] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Refused,
        Self::Incomplete,
        Self::Corrupt,
        Self::Interrupted,
    ];

    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Incomplete => 4,
            Self::Corrupt => 5,
            Self::Interrupted => 130,
        }
    }

    /// What it means.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed, or the input is wrong; nothing was changed",
            Self::Usage => "the command line is wrong; nothing was changed",
            Self::Refused => "refused by policy, precondition or appraisal; nothing was changed",
            Self::Incomplete => "incomplete: waiting or unreachable; safe to run again",
            Self::Corrupt => "durable data is corrupt: stop, keep the files, find out",
            Self::Interrupted => "interrupted; what agents do goes on",
        }
    }
}
