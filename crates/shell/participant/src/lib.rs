//! A reference participant with the services of a real one, for demonstrations and tests.
