//! The real Nix, as processes: find a fleet, evaluate it, build it, hand it out.
//!
//! [`Nix::find`] proves that there is a Nix to work with, [`Source::find`] where the fleet is. What is decided from
//! Nix's answers is elsewhere; what Nix prints is read here and goes no further as text.

mod build;
mod closure;
mod command;
mod contents;
mod evaluate;
mod inspect;
mod message;
mod serve;
mod source;
mod systems;
mod take;
mod tree;
mod trees;
mod version;

pub use build::Root;
pub use closure::{Archives, Delivery, PathInfo, Store, references_first};
pub use command::{Error, LogLine, Nix, Settings};
pub use contents::{Infos, contents};
pub use evaluate::{Builders, Evaluated, Expression, Fleet, Form};
pub use inspect::{AskedSecret, Inspected};
pub use source::{NoSource, Source};
pub use take::Taking;
pub use trees::{Tree, Trees};
pub use version::Version;
