//! What each product can do, as data.
