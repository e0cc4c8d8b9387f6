//! A fleet of real machines for tests and the demo.
