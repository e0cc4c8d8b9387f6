//! What bosco talks about, as values.
//!
//! Text becomes one of these types at the edge and is never checked again: a [`HostName`], a [`StorePath`] or a
//! [`Selector`] exists only if it is valid. Nothing here reads a file, starts a process or waits.

mod difference;
mod digest;
mod generation;
mod goal;
mod host;
mod name;
mod number;
mod observed;
mod order;
mod policy;
mod profile;
mod secrets;
mod selector;
mod shown;
mod status;
mod store_path;

pub use difference::{BOOT_PARTS, Difference, PackageChange, System, UnitChanges, UnitFile, Units, alike};
pub use digest::{Digest, InvalidDigest};
pub use generation::{Generation, Generations, NoGeneration};
pub use goal::Goal;
pub use host::{Declaration, Host, Limits, Privilege, Target};
pub use name::{FleetName, HostName, InvalidName, ProfileName, Tag, UserName};
pub use number::{HIGHEST, Hold, Number, next_number};
pub use observed::{Activity, ActivityStage, Kernel, Observed};
pub use order::{Cycle, Order, Placed};
pub use policy::{Mode, Policy, Window};
pub use profile::{DeclaredProfile, InvalidPlace, Profile, ProfileAt, ProfilePlace, Profiles};
pub use secrets::{DeclaredKey, DeclaredSecrets, SecretFile, SecretSource, UploadAt};
pub use selector::{Condition, InvalidSelector, Pattern, Reach, Selector};
pub use shown::shown;
pub use status::{State, Status, Unfit};
pub use store_path::{DerivationPath, InvalidStorePath, StorePath};
