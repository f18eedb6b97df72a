//! Claims of evidence that nobody verified. For people only.
