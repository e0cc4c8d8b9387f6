//! What `bosco check` looks at besides what evaluates: a kind of mistake, a file. All but `derivations` is pure.

pub(crate) mod clear;
pub(crate) mod derivations;
pub(crate) mod fleet_file;
pub(crate) mod format;
pub(crate) mod lock;
pub(crate) mod place;
