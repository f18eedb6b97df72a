//! The reference ledger: blocks, payments, and the rules by which they count.
